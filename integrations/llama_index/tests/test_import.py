from importlib.metadata import version

import llama_index.llms.saliency_guard


def test_version_is_that_of_the_distribution() -> None:
    assert llama_index.llms.saliency_guard.__version__ == version("llama-index-llms-saliency-guard")
