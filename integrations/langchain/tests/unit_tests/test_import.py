from importlib.metadata import version

import langchain_saliency_guard


def test_version_is_that_of_the_distribution() -> None:
    assert langchain_saliency_guard.__version__ == version("langchain-saliency-guard")
