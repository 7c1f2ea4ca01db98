"""Where events come from when no trading core feeds the service: recordings, and the demo's floor.

The demo is a simulation without a loop or a clock: a price goes in with the moment, payloads come
out. `demo` is the synthetic market, `floor` the trading floor that everything meets on, `traders`
its traders with their `strategies`, `holdings` and `accounts`, `risk` its limits; `pace` thins out
what nobody could read.
"""
