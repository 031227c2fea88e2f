"""Structured answers: constrained to a schema and parsed by it."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_saliency_guard._tools import answer_schema
from saliency_guard import ConfigError


def structured(
    model: BaseChatModel, schema: Any, *, include_raw: bool, method: str, **kwargs: Any
) -> Runnable[Any, Any]:
    """A model constrained to a schema, followed by a parser; arguments of `BaseChatModel.with_structured_output`.

    Raises:
        ConfigError: for an unknown argument or method.
    """
    unknown = set(kwargs) - {"strict"}
    if unknown or method not in {"json_schema", "json_mode"}:
        msg = f"with_structured_output takes no {min(unknown)!r}" if unknown else f"there is no method {method!r}"
        raise ConfigError(msg)
    trace_format = {"kwargs": {"method": method}, "schema": schema}
    llm = model.bind(json_schema=answer_schema(schema), ls_structured_output_format=trace_format)
    is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
    parser: Runnable[Any, Any] = PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()
    if not include_raw:
        return llm | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=llm) | parsed.with_fallbacks([failed], exception_key="parsing_error")
