"""What every test needs: the settings of whoever runs the tests stay out of them."""

import os


def pytest_configure() -> None:
    for name in [name for name in os.environ if name.startswith("OCTAVO_")]:
        del os.environ[name]
    # Tests use small tensors, for which a second thread only costs; processes they start inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
