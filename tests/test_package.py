"""The package as a library: nothing heavy on import, public names on first use."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_package_is_light_and_its_names_load_on_first_use() -> None:
    script = (
        "import sys, dactcli\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "from dactcli import DactConfig, DactForSequenceClassification\n"
        "from transformers import AutoConfig\n"
        "assert AutoConfig.for_model('dact').__class__ is DactConfig\n"
        "try:\n    dactcli.nonsense\nexcept AttributeError as error:\n    assert 'nonsense' in str(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
