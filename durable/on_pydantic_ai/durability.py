"""Durability: the capability that makes the model requests and tool calls of an agent steps of a workflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    EventStreamHandlerId,
    JournalCallableOperationBackend,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    conversation_id_from_run_id,
)
from pydantic_ai.models import Model
from pydantic_ai.tools import AgentDepsT
from pydantic_ai.toolsets import AbstractToolset, WrapperToolset

from durable.hosted import current_context, hosted_step, is_hosted, uncounted_tasks
from durable.limits.options import step
from durable.limits.retry import Retry
from durable.on_pydantic_ai.stream import publishing

METADATA_KEY = "durable"


class Durability(BaseDurabilityCapability[AgentDepsT]):
    """Makes the model requests, tool calls and MCP calls of an agent steps of the workflow that hosts it.

    Outside of `ctx.host` the agent runs as it would without. Tools are steps unless their metadata has
    `{"durable": False}`; then their code runs again on a replay, and an agent that such a tool runs has steps of its
    own. A tool's metadata may also have `{"durable": Retry(...)}`.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="durable",
        durable_unit_noun="step",
        durable_container_noun="workflow",
        codec=JSON_CODEC,
        toolset_lifecycles={"function": "enter-always", "mcp": "enter-in-durable-unit", "dynamic": "enter-never"},
    )

    def __init__(
        self,
        *,
        models: Mapping[str, Model] | None = None,
        stream: bool = False,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
        model_retry: Retry | None = None,
        tool_retry: Retry | None = None,
    ) -> None:
        """`models` may be asked for by key at run time. `name` begins the keys; without it, the agent's name does.

        With `stream`, the models are asked for streams: the last 1,500 characters of what a model has said so far are
        published as "text", the progress of its step, see `current_step().publish`. The step's result is the whole
        answer. The event stream handler implies it, and gets the events of a request within its step, as they come.
        """
        handler = publishing(event_stream_handler) if stream or event_stream_handler else None
        super().__init__(models=models, event_stream_handler=handler, name=name)
        self._has_handler = event_stream_handler is not None
        self._model_retry, self._tool_retry = model_retry, tool_retry

    @property
    def in_durable_context(self) -> bool:
        """Whether this code asks for operations: in a task of hosted code, and outside of steps."""
        return is_hosted()

    def get_default_run_id(self) -> str | None:
        """Return the same id on each replay: the place of the run in its workflow."""
        if not self.in_durable_context:
            return None
        ctx = current_context()
        scope = ctx.frame.scope
        return f"{ctx.workflow_id}/{scope.path}/{scope.number}"

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """Return an id that follows from the run's."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    async def get_run_start_time(self, run_id: str) -> datetime | None:  # noqa: ARG002 - the base class names it
        """Return the instant on record, so that a timeout of the run counts from its first start."""
        return current_context().now() if self.in_durable_context else None

    def get_durable_operation_backend(self) -> _Backend:
        """Return the backend that performs the operations as steps."""
        return _Backend(
            agent_name=self.name,
            has_handler=self._has_handler,
            default_model_id=self.default_model_id,
            config=RoleBasedOperationConfig[Retry | None](
                model=self._model_retry, event=None, capability=None, tool=None, resolve_tool=self._find_tool_retry
            ),
        )

    def get_wrapper_toolset(self, toolset: AbstractToolset[AgentDepsT]) -> AbstractToolset[AgentDepsT] | None:
        """See the base class."""
        wrapped = super().get_wrapper_toolset(toolset)
        return None if wrapped is None else _Toolset(wrapped)

    def _find_tool_retry(self, _: object, tool: Any, tool_name: str) -> Retry | Literal[False] | None:
        asked = None if tool is None else (tool.tool_def.metadata or {}).get(METADATA_KEY)
        if asked is None or asked is True:
            return self._tool_retry
        if asked is False or isinstance(asked, Retry):
            return asked
        raise TypeError(f"tool {tool_name!r}: its metadata {METADATA_KEY!r} is {asked!r}; expected a Retry, or False")


class _Toolset(WrapperToolset[AgentDepsT]):
    """Closes what steps have opened, the session of an MCP server: a replay that runs no step has none to close."""

    async def __aexit__(self, *args: object) -> bool | None:
        with uncounted_tasks():
            return await super().__aexit__(*args)


class _Backend(JournalCallableOperationBackend["Retry | None"]):
    """Performs each operation as a step."""

    def __init__(self, *, agent_name: str, has_handler: bool, **options: Any) -> None:
        super().__init__(agent_name=agent_name, **options)
        self._agent_name, self._has_handler = agent_name, has_handler

    async def execute(
        self,
        *,
        operation_id: object,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: Retry | None,
    ) -> object:
        """See the base class. A tool call is recorded with its arguments, and compared with them on a replay."""
        if isinstance(operation_id, EventStreamHandlerId) and not self._has_handler:
            return await body()

        async def perform(*_: object) -> object:
            return await body()

        arguments: tuple[object, ...] = ()
        if isinstance(operation_id, ToolsetCallToolId):
            name, arguments = str(cache_key[0]), cache_key[1:2]
        name = name.removeprefix(f"{self._agent_name}__").replace("/", "|")  # the scope has the agent's name
        return await hosted_step(name, perform if config is None else step(retry=config)(perform), *arguments)
