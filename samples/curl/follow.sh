#!/usr/bin/env bash
# Every change once, over cuts and restarts, with curl alone.
url="${TELECAST_URL:-http://127.0.0.1:8080}/sse/telemetry?channels=market-data&heartbeat=2"
id=""
pause=1
while true; do
    # Three heartbeats without a byte end it. The key goes by a file descriptor: a list of processes
    # would show it among the arguments.
    while IFS= read -r line; do
        case "$line" in
            HTTP\ 200 | HTTP\ 429 | HTTP\ 5?? | HTTP\ 000) ;;
            HTTP\ *) echo "refused: $line" >&2; exit 1 ;;
            "id: "*) id="${line#id: }"; pause=1 ;;
            "id:") id="" ;; # a snapshot: the rows before it are forgotten, and the place with them
            "data: "*'"retryable":false'*) echo "${line#data: }" >&2; exit 1 ;;
            "data: "*) echo "${line#data: }" ;;
        esac
    done < <(curl -sN --speed-limit 1 --speed-time 6 -w '\nHTTP %{http_code}\n' \
        -H @<(echo "X-API-Key: $TELECAST_KEY") ${id:+-H "Last-Event-ID: $id"} "$url")
    echo "disconnected" >&2
    sleep "$pause"
    pause=$((pause < 16 ? pause * 2 : 16))
done
