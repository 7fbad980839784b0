"""All dashboards."""

from monitoring.dashboards import llm, media, overview, partitions, quality, sessions, store

BOARDS = (overview.BOARD, quality.BOARD, llm.BOARD, sessions.BOARD, store.BOARD, media.BOARD, partitions.BOARD)
