"""The core: keys, the history, the life of a step and the replay rule. Knows no database and no operation.

An operation is a function of a `Frame`, which `ctx.frame` gives:

    with held_back():                                        # Ctrl+C waits until the books are in order
        call = Operation("memo", "rate", codec, currency)    # kind, name, how its value is stored, its arguments
        step = frame.reach(call)                             # its key is drawn; its outcome is set if one is on record
        return frame.perform(step, fetch)                    # have the effect and record it, or answer from the record

`docs/howto/extending.md` walks through one. The core reads in the order `step.py`, `frame.py`, `keys.py`, `history.py`.
"""

from durable.replay.call import Call, Operation
from durable.replay.frame import Frame, effect_of
from durable.replay.keys import program_order
from durable.replay.log import Log, Message, TransactingLog, Wait, WaitingLog
from durable.replay.step import Outcome, Step
from durable.signals import held_back
from durable.values.codec import codec_of

__all__ = [
    "Call",
    "Frame",
    "Log",
    "Message",
    "Operation",
    "Outcome",
    "Step",
    "TransactingLog",
    "Wait",
    "WaitingLog",
    "codec_of",
    "effect_of",
    "held_back",
    "program_order",
]
