"""A conversation through chat template and processor: what is text in it stays text, and is found where it stands."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from saliency_guard.chat.control_tokens import ControlTokens
from saliency_guard.chat.marked_tokenizer import MarkedReader, Row
from saliency_guard.chat.marks import Marks
from saliency_guard.chat.messages import Conversation
from saliency_guard.chat.role_markers import RoleMarkers, parted, same_tokens
from saliency_guard.chat.tools import Tool, in_words, merge_runs, takes_tools
from saliency_guard.errors import MessageError, ModelError

Change = Callable[[str, str, int | None], str]
"""What becomes of a string of a conversation: the string, its role, and its number if it is a text part."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A conversation for the model.

    Attributes:
        data: what the processor returned.
        row: the prompt's text and where everything stands in it; None where that is not known.
        reason: why it is not known.
    """

    data: Any
    row: Row | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """A conversation whose strings were changed, as the chat template takes it."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Written:
    """A conversation whose strings were changed, and what the chat template writes of it."""

    rewritten: _Rewritten
    shown: str


@dataclass(frozen=True, slots=True)
class PromptEncoder:
    """Encodes conversations for one processor.

    Attributes:
        processor: the processor.
        tools: that the prompt tells of.
        controls: the control tokens.
        role_markers: what to do with text that looks like the template's own.
    """

    processor: Any
    tools: Sequence[Tool]
    controls: ControlTokens
    role_markers: RoleMarkers

    def encode(self, conversation: Conversation, *, locate: bool) -> EncodedPrompt:
        """Apply the chat template and the processor.

        A conversation without anything that may be a control token, and without named texts, goes through them as
        it is. In any other one, marks are set around named texts and in place of control tokens, and
        taken out again when the processor calls the tokenizer.

        Args:
            conversation: checked messages.
            locate: whether named texts are to be found.

        Raises:
            MessageError: if there is a control token in a text that cannot be kept apart from the template's.
        """
        strings: list[str] = []

        def noted(text: str, _role: str, _number: int | None) -> str:
            strings.append(text)
            return text

        plain = self._rewritten(conversation, noted)
        is_suspect = self.role_markers.matters or any(map(self.controls.may_control, strings))
        numbers = frozenset(k for k, text in enumerate(conversation.texts) if locate and text.source and text.text)
        if not is_suspect and not numbers:
            return EncodedPrompt(self._applied(self.processor, plain))
        marks = Marks(strings)
        change, base = self._safe(conversation, marks) if is_suspect else (_unchanged, self._shown(plain))
        marked = self._with_edges(conversation, change, marks, numbers, base.shown) if numbers else None
        reason = "" if marked or not numbers else "the chat template writes texts otherwise than they are given"
        if marked is None and not marks.has_literals(base.shown):
            return EncodedPrompt(self._applied(self.processor, base.rewritten), None, reason)
        return self._read(marked or base, base, marks, reason)

    def _read(self, marked: _Written, base: _Written, marks: Marks, reason: str) -> EncodedPrompt:
        """Encode a conversation with marks in it."""
        reader = MarkedReader(self.controls, marks)
        data = self._applied(_with_tokenizer(self.processor, reader.tokenizer()), marked.rewritten)
        if reader.taken != marks.count(marked.shown):
            if marks.has_literals(marked.shown):
                msg = "the processor does not encode its prompt at once: take control tokens out of the messages' texts"
                raise MessageError(msg)
            why = "the processor changes the prompt's text"
            return EncodedPrompt(self._applied(self.processor, base.rewritten), None, why)
        rows = [row for row in reader.rows if row.ids == data["input_ids"][0].tolist()]
        if len(rows) == len(reader.rows) == 1:
            return EncodedPrompt(data, rows[0], reason)
        return EncodedPrompt(data, None, reason or "the processor changes the prompt's tokens")

    def _safe(self, conversation: Conversation, marks: Marks) -> tuple[Change, _Written]:
        """What keeps every text of a conversation a text.

        Raises:
            MessageError: if nothing does.
        """
        expected = self._controls(self._written(conversation, self._harmless).shown, marks)

        def literal(text: str, role: str, number: int | None) -> str:
            handled = self._handled(text)
            return self.controls.mark(
                handled, lambda control: self._literal(control, marks), is_answer=_is_answer(role, number)
            )

        def apart(text: str, role: str, number: int | None) -> str:
            changed = self.role_markers.apart(literal(text, role, number))
            return marks.part(changed) if self.controls.may_control(text) else changed

        for change in (literal, apart):
            base = self._written(conversation, change)
            controls = self._controls(base.shown, marks)
            if controls == expected:
                return change, base
        msg = (
            "the chat template makes control tokens or role markers of the messages' texts, such as "
            f"{_first_difference(controls, expected)!r}: take out what looks like a part of one"
        )
        raise MessageError(msg)

    def _harmless(self, text: str, role: str, number: int | None) -> str:
        if not (self.role_markers.matters or self.controls.may_control(text)):
            return text
        return self.role_markers.harmless(self.controls.harmless(text, is_answer=_is_answer(role, number)))

    def _controls(self, shown: str, marks: Marks) -> list[str]:
        """The control tokens of a prompt outside of what is text alone; and the role markers, if these matter."""
        markers = self.role_markers.pattern.findall(marks.read(shown).text) if self.role_markers.matters else []
        return [*self.controls.pattern.findall(shown), *markers]

    def _handled(self, text: str) -> str:
        handled = self.role_markers.handled(text)
        if handled != text and same_tokens(self.controls.tokenizer, handled, text):
            msg = (
                "the tokenizer drops the zero-width space that is to part role markers in a text: use "
                'role_markers="refuse"'
            )
            raise MessageError(msg)
        return handled

    def _literal(self, control: str, marks: Marks) -> str:
        """A control token as literal text."""
        if self.controls.spell(control) is not None:
            return marks.literal(control)
        instead = parted(control)
        if self.role_markers.handling == "escape" and not self.controls.holds(instead):
            return instead
        msg = (
            f"a message holds {control!r}, which the tokenizer can only read as a control token: take it out, or let "
            'it be parted by a zero-width space with role_markers="escape"'
        )
        raise MessageError(msg)

    def _with_edges(
        self, conversation: Conversation, change: Change, marks: Marks, numbers: frozenset[int], shown: str
    ) -> _Written | None:
        """The conversation with marks at both ends of texts; None if the chat template then writes something else.

        Args:
            conversation: the conversation.
            change: what becomes of its strings.
            marks: the marks.
            numbers: of the texts to be marked.
            shown: what the chat template writes without the marks.
        """
        for with_spaces in (True, False):

            def edged(text: str, role: str, number: int | None, *, with_spaces: bool = with_spaces) -> str:
                changed = change(text, role, number)
                return marks.edges(number, changed, with_spaces=with_spaces) if number in numbers else changed

            marked = self._written(conversation, edged)
            if marks.without_edges(marked.shown) == shown:
                return marked
        return None

    def _rewritten(self, conversation: Conversation, change: Change) -> _Rewritten:
        """The conversation for the chat template, with all of its strings changed."""
        is_told_natively = takes_tools(self.processor)
        messages: list[dict[str, Any]] = []
        number = 0
        for message in conversation.messages:
            role = message["role"]
            content: list[dict[str, Any]] = []
            for part in message["content"]:
                if part["type"] == "text":
                    content.append({**part, "text": change(part["text"], role, number)})
                    number += 1
                else:
                    content.append(part)
            rest = {
                key: value if key == "tool_calls" and not is_told_natively else _changed(value, role, change)
                for key, value in message.items()
                if key not in {"role", "content"}
            }
            messages.append({"role": role, "content": content, **rest})
        if is_told_natively:
            return _Rewritten(messages, [_changed(dict(tool), "tool", change) for tool in self.tools])
        return _Rewritten(in_words(messages, self.tools, lambda text: change(text, "tool", None)), [])

    def _written(self, conversation: Conversation, change: Change) -> _Written:
        return self._shown(self._rewritten(conversation, change))

    def _shown(self, rewritten: _Rewritten) -> _Written:
        return _Written(rewritten, rendered(self.processor, rewritten.messages, rewritten.tools))

    def _applied(self, processor: Any, rewritten: _Rewritten) -> Any:
        """What the processor makes of the prompt."""
        how = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
        return _templated(processor, rewritten.messages, rewritten.tools, how)


def rendered(processor: Any, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
    """The prompt as the chat template writes it.

    Args:
        processor: whose chat template it is.
        messages: as the chat template takes them.
        tools: that it is told of.

    Raises:
        ModelError: if the processor shows no prompt.
    """
    shown = _templated(processor, messages, tools, {"tokenize": False})
    text = shown[0] if isinstance(shown, (list, tuple)) and shown else shown
    if not isinstance(text, str):
        msg = f"{type(processor).__name__}.apply_chat_template(tokenize=False) gives no text"
        raise ModelError(msg)
    return text


def _templated(
    processor: Any, messages: list[dict[str, Any]], tools: list[dict[str, Any]], how: Mapping[str, Any]
) -> Any:
    with_tools = {"tools": tools} if tools else {}
    try:
        return processor.apply_chat_template([messages], add_generation_prompt=True, **how, **with_tools)
    except TemplateError:  # Many templates insist on roles that alternate.
        merged = merge_runs(messages)
        if len(merged) == len(messages):
            raise
        return processor.apply_chat_template([merged], add_generation_prompt=True, **how, **with_tools)


def _is_answer(role: str, number: int | None) -> bool:
    """Whether a string is what the model said: not a call's name or arguments."""
    return role == "assistant" and number is not None


def _unchanged(text: str, _role: str, _number: int | None) -> str:
    return text


def _changed(value: Any, role: str, change: Change) -> Any:
    """A value of a message or a tool with all strings in it changed, those that are keys as well."""
    if isinstance(value, str):
        return change(value, role, None)
    if isinstance(value, Mapping):
        return {_changed(key, role, change): _changed(item, role, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_changed(item, role, change) for item in value]
    return value


def _with_tokenizer(processor: Any, tokenizer: Any) -> Any:
    """A processor that uses another tokenizer; itself it is left as it was."""
    if not hasattr(processor, "tokenizer"):
        return tokenizer
    other = copy.copy(processor)
    other.tokenizer = tokenizer
    return other


def _first_difference(shown: Sequence[str], expected: Sequence[str]) -> str:
    pairs = zip(shown, [*expected, *[""] * len(shown)], strict=False)
    return next((left for left, right in pairs if left != right), "".join(expected[-1:]))
