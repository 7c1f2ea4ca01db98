"""HTTP in, bytes out: `front` takes requests, `auth` says who asks, `streams` and `api` answer.

`routes` is every path on one page, `parts` what the handlers share. It may import every room but
`app`, `server`, `cli`, `client` and `demo`.
"""
