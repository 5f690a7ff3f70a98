"""The only writers of a job's state.

Every function takes an open connection of `shared.db.engine.write()` and is one conditional statement under the job's
row lock plus its event row, in the same transaction. The loser of a race gets `LeaseLost` (an attempt), `Conflict` (a
user) or None (maintenance).

    submitting     submit                                 leasing      can_claim, claim, renew, leave_devices, …
    dependencies   resolve_dependencies, expire_deadlines effects      record, commit_checkpoint, …
    requests       request_stop, request_drain, resume, edit
    preempting     urgent_ids, request_preemption         endings      succeed, fail, stop, release
    reserving      reserve, give_way, free_left_devices
    rescuing       expired, rescue                        archiving    archive, unarchive, delete_job
    sharding       agree, refuse_shard                    requests     align_shards
"""

from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.transitions.archiving import archive, delete_job, unarchive
from shared.jobs.transitions.dependencies import expire_deadlines, resolve_dependencies
from shared.jobs.transitions.effects import commit_artifacts, commit_checkpoint, delete_checkpoints, record
from shared.jobs.transitions.endings import fail, release, stop, succeed
from shared.jobs.transitions.leasing import begin, can_claim, claim, leave_devices, pin, renew
from shared.jobs.transitions.preempting import request_preemption, urgent_ids
from shared.jobs.transitions.requests import align_shards, edit, request_cancel, request_drain, request_stop, resume
from shared.jobs.transitions.rescuing import expired, rescue
from shared.jobs.transitions.reserving import (
    free_left_devices,
    give_way,
    has_reservations_to_change,
    left_devices,
    reserve,
)
from shared.jobs.transitions.sharding import agree, refuse_shard
from shared.jobs.transitions.submitting import is_one_statement, submit
from shared.jobs.transitions.values import (
    ArtifactRecord,
    AttemptStatus,
    Claimed,
    Claimer,
    Ending,
    Lease,
    LogRow,
    MetricRow,
    ModelVersionRecord,
    NewJob,
    PromotionRecord,
    SampleRow,
    Submitted,
)
