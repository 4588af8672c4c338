"""`python -m demo`: the service, with a registry to look at when none is configured."""

import argparse
import os
import sys
from pathlib import Path

from demo.processes import registry_admin
from demo.run import Demonstration
from service.settings import SettingsError, load

NAMED = ("REGISTRY_ADMIN_CONFIG", "REGISTRY_ADMIN_REGISTRY_URL")


def main() -> int:
    """Become `registry-admin serve` where a registry is named, else demonstrate."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--config", type=Path, help="settings of your own: no demonstration")
    config = parser.parse_args().config
    if config or any(os.environ.get(name) for name in NAMED):
        named = {"REGISTRY_ADMIN_CONFIG": str(config)} if config else {}
        serve = registry_admin("serve")
        os.execve(serve[0], serve, os.environ | named)  # noqa: S606 - no shell wanted
    try:
        settings = load(None, os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return Demonstration(settings).run()


if __name__ == "__main__":
    sys.exit(main())
