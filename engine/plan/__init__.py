"""Plans of what a job needs, from its spec and the model's config.json, without loading anything."""

from engine.plan.forward import Scoring, Writing
from engine.plan.memory import MemoryPlan, plan_memory
from engine.plan.products import Variety, kept_shapes, new_shapes
from engine.plan.setting import Setting
from engine.plan.shape import Shape
from engine.plan.work import Counts, Effort, Efforts, Work
from engine.plan.workload import Workload

__all__ = [
    "Counts",
    "Effort",
    "Efforts",
    "MemoryPlan",
    "Scoring",
    "Setting",
    "Shape",
    "Variety",
    "Work",
    "Workload",
    "Writing",
    "kept_shapes",
    "new_shapes",
    "plan_memory",
]
