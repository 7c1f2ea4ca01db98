"""A certificate of its own for a test's server, and who trusts it."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

OPENSSL = shutil.which("openssl")


@dataclass(frozen=True, slots=True)
class Certificate:
    cert: Path
    key: Path

    @property
    def settings(self) -> dict[str, Path]:
        """Of a service that has it."""
        return {"tls_cert": self.cert, "tls_key": self.key}

    def trusted(self) -> ssl.SSLContext:
        """For clients, which believe nothing else."""
        return ssl.create_default_context(cafile=self.cert)


def certify(folder: Path, name: str = "localhost") -> Certificate:
    """For this name, and for 127.0.0.1."""
    assert OPENSSL is not None
    made = Certificate(folder / "telecast.pem", folder / "telecast.key")
    words = [
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-days", "2", "-subj", f"/CN={name}"),
        *("-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"),
        *("-keyout", str(made.key), "-out", str(made.cert)),
    ]
    subprocess.run([OPENSSL, *words], check=True, capture_output=True)
    return made


def encrypted(made: Certificate) -> Path:
    """Its key behind a pass phrase."""
    locked = made.key.with_name("locked.key")
    words = ["pkey", "-in", made.key, "-aes256", "-passout", "pass:x", "-out", locked]
    subprocess.run([str(OPENSSL), *map(str, words)], check=True)
    return locked
