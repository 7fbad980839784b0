"""Boards as Grafana's JSON, by its SDK."""

from collections.abc import Iterator, Sequence

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)

from monitoring.dashboards.board import Board, Panel, Row, Variable

_COLUMNS = 24
_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_COLORS = ("green", "orange", "red")
_ABSOLUTE = models.ThresholdsMode.ABSOLUTE


def to_json(board: Board) -> str:
    """Return the dashboard, as Grafana 11.6 provisions it."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["vibestream"])
        .time("now-1h", "now")
        .refresh("15s")
        .timezone("browser")
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(dashboard.DashboardLink("vibestream").type(models.DashboardLinkType.DASHBOARDS).tags(["vibestream"]))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in board.variables:
        builder = builder.with_variable(_variable(variable))
    made = builder.build()
    made.panels = list(_panels(board.rows))  # not by the builder, which moves what stands at the left edge
    return JSONEncoder(sort_keys=True, indent=2).encode(made)


def _panels(rows: Sequence[Row]) -> Iterator[models.Panel | models.RowPanel]:
    """Lay out the rows from top to bottom; no panel overlaps another."""
    number, y = 1, 0
    for row in rows:
        place = models.GridPos(h=1, w=_COLUMNS, x=0, y=y)
        yield dashboard.Row(row.title).id(number).grid_pos(place).build()
        number, y, x, tallest = number + 1, y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            yield _panel(panel, number, models.GridPos(h=panel.height, w=panel.width, x=x, y=y))
            number, x, tallest = number + 1, x + panel.width, max(tallest, panel.height)
        y += tallest


def _panel(panel: Panel, number: int, place: models.GridPos) -> models.Panel:
    builder = stat.Panel() if panel.kind == "number" else timeseries.Panel()
    builder = (
        builder.id(number)
        .title(panel.title)
        .description(panel.description)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .grid_pos(place)
        .targets([_target(query.expr, query.legend, n) for n, query in enumerate(panel.queries)])
        .thresholds(_thresholds(panel.steps))
    )
    if panel.least is not None:
        builder = builder.min(panel.least)
    if panel.most is not None:
        builder = builder.max(panel.most)
    if isinstance(builder, stat.Panel):
        reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
        return builder.reduce_options(reduced).graph_mode(BigValueGraphMode.AREA).build()
    stacked = panel.kind == "stack"
    mode = StackingMode.NORMAL if stacked else StackingMode.NONE
    legend = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    return (
        builder.line_width(1)
        .fill_opacity(40 if stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(mode).group("A"))
        .legend(legend.display_mode(LegendDisplayMode.LIST))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .build()
    )


def _target(expr: str, legend: str, number: int) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + number)).datasource(_SOURCE)


def _thresholds(steps: Sequence[float]) -> dashboard.ThresholdsConfig:
    values = (None, *steps)
    colors = _COLORS if len(steps) > 1 else ("green", "red")
    made = [models.Threshold(value=value, color=color) for value, color in zip(values, colors, strict=False)]
    return dashboard.ThresholdsConfig().mode(_ABSOLUTE).steps(made)


def _variable(variable: Variable) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(_SOURCE)
        .query(f"label_values({variable.metric}, {variable.name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )
