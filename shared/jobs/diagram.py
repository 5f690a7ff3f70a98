"""The diagram of a job's states, drawn from the table of moves: `python -m shared.jobs.diagram > docs/images/states.svg`."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

from nightshift.states import FINAL_STATES, JobState
from shared.jobs.states import TRANSITIONS

WIDTH, HEIGHT = 850, 420
BOX = (120, 44)
#: Centre of each state.
PLACES = {
    JobState.WAITING: (80, 60),
    JobState.QUEUED: (430, 60),
    JobState.RUNNING: (430, 220),
    JobState.PAUSED: (190, 220),
    JobState.SUCCEEDED: (760, 220),
    JobState.FAILED: (760, 60),
    JobState.CANCELLED: (430, 370),
}
#: What moves a job along each edge, and how far the edge bends aside (pixels).
LABELS: dict[tuple[JobState, JobState], tuple[str, int]] = {
    (JobState.WAITING, JobState.QUEUED): ("all that it waits for succeeded", 0),
    (JobState.WAITING, JobState.FAILED): ("one of them did not", -75),
    (JobState.WAITING, JobState.CANCELLED): ("cancel", 230),
    (JobState.QUEUED, JobState.RUNNING): ("claim", -60),
    (JobState.QUEUED, JobState.PAUSED): ("pause", -30),
    (JobState.QUEUED, JobState.CANCELLED): ("cancel", -190),
    (JobState.QUEUED, JobState.FAILED): ("deadline", 0),
    (JobState.RUNNING, JobState.SUCCEEDED): ("succeed", 0),
    (JobState.RUNNING, JobState.FAILED): ("error, third crash, deadline", 0),
    (JobState.RUNNING, JobState.CANCELLED): ("cancel", 0),
    (JobState.RUNNING, JobState.PAUSED): ("pause", 0),
    (JobState.RUNNING, JobState.QUEUED): ("given back", -60),
    (JobState.PAUSED, JobState.QUEUED): ("resume", -30),
    (JobState.PAUSED, JobState.CANCELLED): ("cancel", 0),
}


@dataclass(frozen=True)
class Edge:
    """A move as a curve from border to border."""

    start: tuple[float, float]
    middle: tuple[float, float]
    end: tuple[float, float]
    label: str

    @classmethod
    def between(cls, source: JobState, target: JobState) -> Edge:
        label, bend = LABELS[source, target]
        (x0, y0), (x1, y1) = PLACES[source], PLACES[target]
        length = hypot(x1 - x0, y1 - y0)
        across = ((y0 - y1) / length, (x1 - x0) / length)
        middle = ((x0 + x1) / 2 + across[0] * bend, (y0 + y1) / 2 + across[1] * bend)
        return cls(_border((x0, y0), middle), middle, _border((x1, y1), middle), label)

    def svg(self) -> str:
        (x0, y0), (xm, ym), (x1, y1) = self.start, self.middle, self.end
        top = ((x0 + 2 * xm + x1) / 4, (y0 + 2 * ym + y1) / 4)
        return (
            f'<path d="M{x0:.0f},{y0:.0f} Q{xm:.0f},{ym:.0f} {x1:.0f},{y1:.0f}" marker-end="url(#tip)"/>'
            f'<text class="move" x="{top[0]:.0f}" y="{top[1] - 5:.0f}">{self.label}</text>'
        )


def _border(centre: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from a box's centre leaves the box."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    share = min(BOX[0] / 2 / abs(dx) if dx else 1e9, BOX[1] / 2 / abs(dy) if dy else 1e9)
    return centre[0] + dx * share, centre[1] + dy * share


def svg() -> str:
    edges = [
        Edge.between(source, target).svg()
        for source in JobState
        for target in JobState
        if target in TRANSITIONS[source]
    ]
    boxes = [_box(state) for state in JobState]
    style = (
        "path{fill:none;stroke:#78909c;stroke-width:1.5}"
        "rect{fill:#eceff1;stroke:#546e7a;stroke-width:1.5}.final{fill:#cfd8dc;stroke-width:3}"
        "text{font:14px sans-serif;text-anchor:middle;fill:#263238}"
        ".move{font-size:12px;fill:#37474f;paint-order:stroke;stroke:#fff;stroke-width:4px}"
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="States of a job">'
        f"<style>{style}</style><defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' "
        "orient='auto'><path d='M0,0 L8,4 L0,8 z' style='fill:#78909c'/></marker></defs>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" style="fill:#fff;stroke:none"/>'
    )
    return "\n".join([head, *edges, *boxes, "</svg>"]) + "\n"


def _box(state: JobState) -> str:
    x, y = PLACES[state]
    kind = ' class="final"' if state in FINAL_STATES else ""
    corner = f'x="{x - BOX[0] // 2}" y="{y - BOX[1] // 2}" width="{BOX[0]}" height="{BOX[1]}"'
    return f'<rect{kind} {corner} rx="8"/><text x="{x}" y="{y + 5}">{state.value}</text>'


if __name__ == "__main__":
    print(svg(), end="")
