# SPDX-License-Identifier: Apache-2.0
"""istio_cases_test.py by the incremental protocol."""
import os
import pathlib
import runpy

os.environ["DELTA"] = "1"
runpy.run_path(str(pathlib.Path(__file__).parent / "istio_cases_test.py"), run_name="__main__")
