"""The load of a site: probe jobs of some seconds that use little CPU, and now and then a real training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.faults.feeder import Feeder
from tests.hosts.site import Site

#: Share of real trainings. Each loads a framework, which takes seconds of CPU.
REAL_SHARE = 0.04


class Load(Feeder):
    """Users who submit longer jobs than those of `Feeder`."""

    def _tags(self) -> dict[str, object]:
        if self._chance.random() < REAL_SHARE:
            return {"real": True}
        tags = super()._tags()
        return tags | {"pace": round(6.0 / int(str(tags["steps"])), 3)} if "steps" in tags else tags


def different_weights(site: Site) -> Iterator[str]:
    """Real trainings of one spec end with one model, however often they were interrupted."""
    found = defaultdict(list)
    for job_id in site.all_ids():
        job = site.job(job_id)
        if "real" in job.spec["tags"] and job.state == "succeeded" and job.stop_requested is None:
            found.update(
                {
                    row.sha256: [*found[row.sha256], job_id]
                    for row in site.artifacts(job_id)
                    if row.path.endswith(".safetensors")
                }
            )
    if len(found) > 1:
        yield f"trainings of one spec ended with {len(found)} models: {dict(found)}"
