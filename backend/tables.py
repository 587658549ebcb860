"""Every table, so that one import fills `Base.metadata`."""

from backend.datasets.tables import DatasetRow
from backend.deployments.tables import DeploymentChangeRow, UsageFileRow, UsageRow
from backend.jobs.tables import JobRow, MetricRow, WorkerRow
from backend.models.tables import CheckpointRow
from backend.pipelines.tables import PipelineRow
from backend.preferences.tables import LabelRow, PairLeaseRow, PairRow
from backend.reviews.tables import ReviewLeaseRow, ReviewRow
from backend.users.tables import KeyRow, UserRow

__all__ = [
    "CheckpointRow",
    "DatasetRow",
    "DeploymentChangeRow",
    "JobRow",
    "KeyRow",
    "LabelRow",
    "MetricRow",
    "PairLeaseRow",
    "PairRow",
    "PipelineRow",
    "ReviewLeaseRow",
    "ReviewRow",
    "UsageFileRow",
    "UsageRow",
    "UserRow",
    "WorkerRow",
]
