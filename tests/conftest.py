"""What every test may ask for: the folder of real pretrained models, one torch thread, a browser, quiet model libraries."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WEIGHTS = Path(os.environ.get("INTERP_MODELS", ROOT.parent / "shared" / "models"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if WEIGHTS.is_dir():
        return
    skip = pytest.mark.skip(reason="needs the small pretrained models; point INTERP_MODELS at their folder")
    for item in items:
        if "weights" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder of real pretrained models (only for tests marked ``weights``)."""
    return WEIGHTS


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Where a browser is; skipped with its reason where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium on the path")
    return CHROMIUM


@pytest.fixture(scope="session")
def chromium(chromium_path: str) -> Iterator[object]:
    """A browser, started."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def offline_tab(chromium) -> Callable[..., AbstractContextManager[Any]]:
    """Make a tab with the network refused; ``asked`` notes what it asked for, ``wrong`` its errors and warnings."""
    @contextmanager
    def make(**options: Any) -> Iterator[Any]:
        with chromium.new_context(offline=True, **options) as context:
            tab = context.new_page()
            tab.asked, tab.wrong, grave = [], [], ("error", "warning")
            tab.on("request", lambda request: tab.asked.append(request.url))
            tab.on("console", lambda message: tab.wrong.append(message.text) if message.type in grave else None)
            tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
            yield tab

    return make
