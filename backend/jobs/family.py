"""A clean job in shards is a family: shard jobs, bucket jobs that read from them, and the job itself."""

from typing import Any

from trainer.spec import CleanBucketSpec, CleanShardSpec, CleanSpec, JobSpec

_NAME = 28  # characters of the job's name in those of its parts


def family_of(spec: JobSpec) -> list[JobSpec]:
    """The jobs that do parts of a job, each reading only from earlier ones, and at the end the job itself.

    Most jobs are alone.
    """
    if not isinstance(spec, CleanSpec) or spec.shards == 1 or spec.inputs:
        return [spec]
    shards, buckets = _names(spec, spec.shard_roles), _names(spec, spec.bucket_roles)
    # Its name is no part of what they do: those of a job of another name may be reused.
    common: dict[str, Any] = {"clean": spec.model_copy(update={"name": "clean"}), "seed": spec.seed}
    return [
        *(CleanShardSpec(name=name, shard=shard, **common) for shard, name in enumerate(shards.values())),
        *(
            CleanBucketSpec(name=name, bucket=bucket, inputs=shards, **common)
            for bucket, name in enumerate(buckets.values())
        ),
        CleanSpec.model_validate(spec.model_dump() | {"inputs": shards | buckets}),
    ]


def _names(spec: CleanSpec, roles: tuple[str, ...]) -> dict[str, str]:
    """Of each role the job that fills it."""
    return {role: f"{spec.name[:_NAME]}-{role}" for role in roles}
