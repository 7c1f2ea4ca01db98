"""python -m telecast"""

from telecast.cli import main

main()
