"""``python -m vaexp`` is the ``vaexp`` command."""

from vaexp.cli import main

main()
