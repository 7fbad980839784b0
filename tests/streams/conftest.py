from pathlib import Path

import pytest

from streams.attribute_table import AttributeTable
from streams.database import Database
from tests.fakes.attributes import CATALOGUE, DIM


@pytest.fixture
def table(tmp_path: Path) -> AttributeTable:
    return AttributeTable.open(Database(str(tmp_path)), CATALOGUE, DIM)
