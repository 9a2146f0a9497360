"""
How often something comes, and how long a silence of it is still usual.

Learned is the usual age: how old the newest data are on the average of all moments. Of data that
come at random it is their mean interval, of a regular beat half of it; of bursts it is more than
the mean interval, as the long pauses between them have the weight of their length. That makes it
the right measure for a silence.

A silence is unusual when data at random with that mean would have one so long once in a million
times. With `n` intervals known, of `T` seconds together, the chance of one longer than `t` is
`(T / (T + t)) ** n`: with few intervals known the limit is wider (Lomax distribution, which is the
predictive one of exponential intervals). Besides, it is twice the longest silence that there was;
that is forgotten by half a day, so that a quiet night is not news on the next.
"""

from __future__ import annotations

import math

LOOK_S = 1.0
"""Between two looks at a feed and its instruments."""
CHANCE = 1e-6
"""Of a silence to be unusual though nothing is wrong."""
MIN_INTERVALS = 10
"""With fewer known nothing is called unusual."""
MEMORY_INTERVALS = 64
MEMORY_S = 3600.0
"""What is learned fades over so many intervals or so long, whichever is longer."""
HALF_LIFE_S = 86_400.0
"""Of the longest silence."""
LONGEST_SILENCES = 2.0
FEW_LONGEST = 4.0
"""The same, while there are too few for more than that."""

Sums = tuple[float, float, float, float]


class Rhythm:
    """
    The rhythm of one feed or one instrument.

    Args:
        floor_s: a silence that is always usual, in seconds; half of it is the interval to begin
            with, so that a burst is not taken for all.
        step_s: time between two looks at it, in seconds: what comes more often is seen as often.

    Attributes:
        floor_s: as given; may be changed.
        beats: how many looks in a row found something new, and are not learned yet; counted by
            who looks, since that costs less than a call for each.

    """

    __slots__ = ("_area", "_count", "_longest_s", "_step_s", "_time_s", "beats", "floor_s")

    def __init__(self, floor_s: float, step_s: float) -> None:
        self.floor_s = floor_s
        self._step_s = step_s
        # Sums over intervals, fading: of ones, of their lengths, of the age over their time.
        self._count = 1.0
        self._time_s = floor_s / 2
        self._area = self._time_s * self._time_s / 2
        self._longest_s = 0.0
        self.beats = 0

    @property
    def sums(self) -> Sums:
        """All that was learned, for `recall`."""
        self._learn_beats()
        return self._count, self._time_s, self._area, self._longest_s

    def recall(self, sums: Sums) -> None:
        """Know what another one had learned."""
        self._count, self._time_s, self._area, self._longest_s = sums

    @property
    def known(self) -> bool:
        """Whether there were enough intervals to judge by."""
        self._learn_beats()
        return self._count > MIN_INTERVALS

    @property
    def usual_s(self) -> float | None:
        """How old the newest data usually are, in seconds; `None` while that is not known."""
        return self._area / self._time_s if self.known else None

    @property
    def limit_s(self) -> float:
        """The longest silence that is usual, in seconds; infinite while that is not known."""
        usual_s = self.usual_s
        if usual_s is None:
            return math.inf
        longest_s = LONGEST_SILENCES * self._longest_s
        return max(self.floor_s, self._improbable_s(usual_s), longest_s)

    def slow_limit_s(self, limit_s: float) -> float:
        """
        Return the longest silence that is usual, in seconds, of what pauses for `limit_s` at times.

        0 for what does not: a failure that was learned as the longest silence makes nothing slow.
        With few intervals known it is four times the longest: by chance the next one is longer once
        in five times after the first, once in 1,000 after the tenth.
        """
        usual_s = self.usual_s
        if usual_s is not None:
            return self.limit_s if self._improbable_s(usual_s) > limit_s else 0.0
        return FEW_LONGEST * self._longest_s if self._longest_s > limit_s else 0.0

    def _improbable_s(self, usual_s: float) -> float:
        return usual_s * self._count * (math.pow(CHANCE, -1 / self._count) - 1)

    def add(self, interval_s: float) -> None:
        """
        Learn one interval, in seconds.

        One that was unusual counts as the longest that is usual: it doubles the limit, so that a
        change of the rhythm is learned by and by, and a failure is soon forgotten.
        """
        if self.beats:
            self._learn_beats()
        if interval_s > self.floor_s:
            interval_s = min(interval_s, self.limit_s)
        self._add(1, interval_s)

    def _learn_beats(self) -> None:
        beats, self.beats = self.beats, 0
        if beats:
            self._add(beats, self._step_s)

    def _add(self, count: float, interval_s: float) -> None:
        """Learn so many equal intervals."""
        time_s = count * interval_s
        self._longest_s = max(self._longest_s * math.pow(0.5, time_s / HALF_LIFE_S), interval_s)
        kept = math.exp(-min(time_s / MEMORY_S, count / MEMORY_INTERVALS))
        # Of a long run no more than is remembered.
        count = min(count, max(1.0, MEMORY_INTERVALS, MEMORY_S / interval_s))
        self._count = kept * self._count + count
        self._time_s = kept * self._time_s + count * interval_s
        self._area = kept * self._area + count * interval_s * interval_s / 2
