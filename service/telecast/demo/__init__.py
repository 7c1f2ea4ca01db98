"""The demo's trading floor: one story on all channels, the same for the same seed.

A simulation without a loop or a clock: a price goes in with the moment, payloads come out. `market`
is the synthetic market, `floor` where everything meets, `traders` its traders with their
`strategies`, `holdings` and `accounts`, `risk` its limits, `connectivity` what is up; `pace` thins
out what nobody could read.
"""
