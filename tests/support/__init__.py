"""What the tests stand on: `service` runs one, `sockets` are clients of it, `checking` judges what
happened; fakes, payloads and a clock for tests without a service.
"""
