"""All readers there are."""

from tests.fuzz import (
    readers_data,
    readers_runs,
    readers_scores,
    readers_weights,
)

ALL = (*readers_data.READERS, *readers_runs.READERS,
       *readers_weights.READERS, *readers_scores.READERS)
