"""All dashboards."""

from monitoring.dashboards import llm, overview, partitions, quality, sessions, store

BOARDS = (overview.BOARD, quality.BOARD, llm.BOARD, sessions.BOARD, store.BOARD, partitions.BOARD)
