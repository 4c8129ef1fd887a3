"""The queue: the only writer of `job`. Every function is short, synchronous and runs inside somebody's transaction.

A claim takes a job under a lease (`locked_by`, `locked_until`) and raises its fence. What follows from a turn is
written only by whoever still holds both: `lock` says whether that is so, `acknowledge` writes the decision.

::

    jobs          what a job is
    claiming      who takes it, and for how long
    agenda        what is due, and when more will be
    decisions     what follows from a turn
    snoozing      the same for many turns that found nothing new
    signals       news and cancels
    dead          dead letters, and what sets a job going again
    verdicts      what a person, or late news, decide
    ended         what has ended
    statistics    counts
"""

from pipeline.queue.agenda import Agenda, agenda
from pipeline.queue.claiming import RESCUES, claim, extend, next_due
from pipeline.queue.dead import DeadFilter, Place, dead, dead_groups, hold, redrive, was_dead
from pipeline.queue.decisions import acknowledge, drop, lock, release
from pipeline.queue.ended import forget, prune
from pipeline.queue.jobs import FAR_FUTURE, Claim, LeaseLost, NewJob, enqueue
from pipeline.queue.signals import cancel_unstarted, hurry, look_again, request_cancel, wake
from pipeline.queue.snoozing import Snoozed, snooze_all
from pipeline.queue.statistics import first_in_line, stats
from pipeline.queue.verdicts import end, follow, held_turn, leave_line, send_to

__all__ = [
    "FAR_FUTURE",
    "RESCUES",
    "Agenda",
    "Claim",
    "DeadFilter",
    "LeaseLost",
    "NewJob",
    "Place",
    "Snoozed",
    "acknowledge",
    "agenda",
    "cancel_unstarted",
    "claim",
    "dead",
    "dead_groups",
    "drop",
    "end",
    "enqueue",
    "extend",
    "first_in_line",
    "follow",
    "forget",
    "held_turn",
    "hold",
    "hurry",
    "leave_line",
    "lock",
    "look_again",
    "next_due",
    "prune",
    "redrive",
    "release",
    "request_cancel",
    "send_to",
    "snooze_all",
    "stats",
    "wake",
    "was_dead",
]
