"""`serve --workers N`: a parent that supervises processes, and what it adds up over them.

`crew` decides who is started, restarted and ended, `sums` adds metrics up; both are pure. `parent`
carries out the `orders`, `gathering` asks what was counted, `line` is a worker's connection to it.
It may import config, logs, net and watch.
"""
