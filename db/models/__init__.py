"""The tables of the database, one in each module."""

from db.models.api_key import ApiKey
from db.models.artifact import Artifact
from db.models.artifact_file import ArtifactFile
from db.models.attempt import Attempt
from db.models.audit import Audit
from db.models.budget import Budget
from db.models.eval import Eval, EvalItem, EvalRun
from db.models.event import Event
from db.models.file import File
from db.models.gang_member import GangMember
from db.models.installation import Installation
from db.models.intent import Intent
from db.models.job import Job
from db.models.metric import Metric
from db.models.outbox import Outbox
from db.models.permission import Permission
from db.models.plan import Plan
from db.models.project import Project
from db.models.promotion import Promotion
from db.models.row import Row
from db.models.spend import Spend
from db.models.stretch import Stretch
from db.models.upload import Upload
from db.models.upload_part import UploadPart
from db.models.webhook import WebhookDelivery, WebhookEndpoint
from db.models.worker import Worker

__all__ = [
    "ApiKey",
    "Artifact",
    "ArtifactFile",
    "Attempt",
    "Audit",
    "Budget",
    "Eval",
    "EvalItem",
    "EvalRun",
    "Event",
    "File",
    "GangMember",
    "Installation",
    "Intent",
    "Job",
    "Metric",
    "Outbox",
    "Permission",
    "Plan",
    "Project",
    "Promotion",
    "Row",
    "Spend",
    "Stretch",
    "Upload",
    "UploadPart",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Worker",
]
