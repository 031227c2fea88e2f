"""SGRS and LocoRE as a generation method of the hub: what ``model.generate(custom_generate="...")`` calls."""

from typing import Any

from saliency_guard import LocoREConfig, SaliencyConfig, SGRSConfig, sgrs_generate

SETTINGS = {"sgrs": SGRSConfig, "saliency": SaliencyConfig, "locore": LocoREConfig}


def generate(model: Any, **arguments: Any) -> Any:
    """Generate with the decoding loop of saliency-guard.

    Args:
        model: a vision-language model of transformers.
        **arguments: as for ``model.generate``; ``sgrs``, ``saliency`` and ``locore`` are settings, each as an object of
            `saliency_guard` or as a dict of its fields; None is off.

    Returns:
        As ``model.generate``; with ``return_dict_in_generate`` also ``saliency`` and ``tokens``, see `SGRSOutput`.
    """
    for name, settings in SETTINGS.items():
        if isinstance(arguments.get(name), dict):
            arguments[name] = settings(**arguments[name])
    # The class's own method: a model that was loaded together with this file has `generate` replaced by this function.
    return type(model).generate(model, custom_generate=sgrs_generate, **arguments)
