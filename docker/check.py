"""Static checks of the images, the examples for compose, Slurm and Kubernetes, and the pinned versions."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from api.__main__ import DRAIN_S
from api.settings import ApiSettings
from workers.settings import WorkerSettings

DOCKER = Path(__file__).parent
TOOLS = Path(sys.executable).parent
DOCKERFILES = ("Dockerfile.api", "Dockerfile.worker")
COMPOSE_FILES = ("compose.yaml", "compose.gpu.yaml")
SLURM, KUBERNETES = "slurm.sbatch", "kubernetes.yaml"
STORE_WITHIN_S = 60
"""The time to store a saved checkpoint before a stopping worker may be killed."""
END_WITHIN_S = 5
"""The time that an API without open requests takes to end."""
SETTINGS = "trainyard.env"
"""The operator's file of settings, beside the compose files."""
SBATCH = {
    "job-name": r"[\w.-]+",
    "nodes": r"[1-9]\d*",
    "ntasks-per-node": "1",  # workers are named after their nodes
    "cpus-per-task": r"[1-9]\d*",
    "gpus-per-node": r"([a-z]\w*:)?[1-9]\d*",
    "mem": r"\d+[KMGT]?",
    "time": r"\d+-\d+(:\d\d){0,2}|\d+(:\d\d){0,2}",
    "signal": r"TERM@\d+",  # without B: to the steps
    "no-kill": "",
}
"""The options of sbatch(1) that the example uses, and patterns of their values."""


def stale_pins() -> list[str]:
    """Return a message for each requirement of pyproject.toml that constraints.txt does not satisfy."""
    lines = (DOCKER / "constraints.txt").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((DOCKER.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    stale = []
    for line in [*project["dependencies"], *extras["train"], *extras["dev"], *extras["page"]]:
        wanted = Requirement(line)
        version = locked.get(canonicalize_name(wanted.name))
        if version is None or version not in wanted.specifier:
            stale.append(f"docker/constraints.txt has {wanted.name} {version}, pyproject.toml wants {line}")
    return stale


def unknown_settings() -> list[str]:
    """Return a message for each variable in the examples that is not a setting."""
    api, worker = ({f"TRAINYARD_{name.upper()}" for name in of.model_fields} for of in (ApiSettings, WorkerSettings))
    known = dict.fromkeys((*DOCKERFILES, *COMPOSE_FILES), api | worker) | dict.fromkeys((SLURM, KUBERNETES), worker)
    return [
        f"docker/{name} has {setting}, which is not a setting"
        for name, settings in known.items()
        for setting in sorted(set(re.findall(r"TRAINYARD_\w+", (DOCKER / name).read_text())) - settings)
    ]


def stop_s() -> float:
    """Return the least time between SIGTERM and SIGKILL that a worker needs."""
    return WorkerSettings.model_fields["stop_grace_s"].default + STORE_WITHIN_S


def slurm_faults() -> list[str]:
    """Return a message for each fault of the Slurm example that Slurm would refuse or misread."""
    lines = (DOCKER / SLURM).read_text().splitlines()
    heading = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    faults = [f"{line}: below the first command" for line in lines[heading:] if line.startswith("#SBATCH")]
    options: dict[str, str] = {}
    for line in lines[:heading]:
        if line.startswith("#SBATCH"):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            if name in options or name not in SBATCH or not re.fullmatch(SBATCH[name], value):
                faults.append(f"{line}: unknown, repeated or malformed")
            options[name] = value
    faults += [f"--{name} is missing" for name in SBATCH if name not in options]
    if int(options.get("signal", "0").rpartition("@")[2]) < stop_s():
        faults.append(f"--signal leaves less than {stop_s():g} s")
    return [f"docker/{SLURM}: {fault}" for fault in faults]


def kubernetes_faults() -> list[str]:
    """Return a message for each fault of the Kubernetes example that its schema does not cover."""
    things: dict[str, Any] = {thing["kind"]: thing for thing in yaml.safe_load_all((DOCKER / KUBERNETES).read_text())}
    service, policy, workers = things["Service"], things["NetworkPolicy"], things["StatefulSet"]["spec"]
    template = workers["template"]
    pod, labels = template["spec"], template["metadata"]["labels"]
    (container,) = pod["containers"]
    (image_user,) = re.findall(r"^USER (\d+:\d+)$", (DOCKER / "Dockerfile.worker").read_text(), re.MULTILINE)
    user = pod["securityContext"]
    selected = [service["spec"]["selector"], policy["spec"]["podSelector"]["matchLabels"]]
    selected += [peer["podSelector"]["matchLabels"] for rule in policy["spec"]["ingress"] for peer in rule["from"]]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    holds = {
        "the selectors are the pods' labels": all(
            each == labels for each in [*selected, workers["selector"]["matchLabels"]]
        ),
        "serviceName is the headless Service": workers["serviceName"] == service["metadata"]["name"]
        and service["spec"]["clusterIP"] == "None",
        "the user is the image's": f"{user['runAsUser']}:{user['runAsGroup']}" == image_user,
        "every volume is mounted": mounted == {volume["name"] for volume in pod["volumes"]},
        f"a worker has {stop_s():g} s to stop": pod["terminationGracePeriodSeconds"] >= stop_s(),
    }
    return [f"docker/{KUBERNETES}: violated: {what}" for what, is_so in holds.items() if not is_so]


def compose_faults() -> list[str]:
    """Return a message for each fault of the compose files that their schema does not cover."""
    services: dict[str, Any] = {}
    faults = []
    for name in COMPOSE_FILES:  # each is merged over those before it
        for service, options in yaml.safe_load((DOCKER / name).read_text())["services"].items():
            services[service] = services.get(service, {}) | options
        built = {options["image"] for options in services.values() if "build" in options}
        faults += [
            f"docker/{name}: {service} runs {options['image']}, which no service builds"
            for service, options in services.items()
            if options["image"].startswith("trainyard-") and options["image"] not in built
        ]
    return faults + [f"docker/{COMPOSE_FILES[0]}: {fault}" for fault in part_faults(services)]


def part_faults(services: dict[str, Any]) -> list[str]:
    """Return a message for each option of the compose files that does not suit the processes."""
    faults = []
    for service, least_s in {"worker": stop_s(), "api": DRAIN_S + END_WITHIN_S}.items():
        grace = re.fullmatch(r"(\d+)s", services[service].get("stop_grace_period", ""))
        if grace is None or float(grace[1]) < least_s:
            faults.append(f"{service}'s stop_grace_period is not {least_s:g}s or more")
    for service, options in services.items():
        read = [file["path"] for file in options.get("env_file", [])]
        if options["image"].startswith("trainyard-") and SETTINGS not in read:
            faults.append(f"{service} does not read {SETTINGS}")
    bootstrap = services["bootstrap"]
    key_file = f"{bootstrap['environment']['TRAINYARD_HOME']}/credentials"  # where cli.place looks
    if bootstrap["command"][-1] != key_file:
        faults.append(f"the first key is not written to {key_file}, where `trainyard` in a container looks for it")
    return faults


def copy_faults() -> list[str]:
    """Return a message for each file that an image needs and its Dockerfile or .dockerignore leaves out."""
    faults = []
    for name in DOCKERFILES:
        shown = re.findall(r"^!(.+)$", (DOCKER / f"{name}.dockerignore").read_text(), re.MULTILINE)
        lines = re.findall(r"^COPY (?!--)(.+) \S+$", (DOCKER / name).read_text(), re.MULTILINE)
        copied = [path for line in lines for path in line.split()]
        faults += [
            f"docker/{name}.dockerignore hides {path}"
            for path in copied
            if not any(Path(path).is_relative_to(each) for each in shown)
        ]
        if name == "Dockerfile.api" and "examples" not in copied:
            faults.append(f"docker/{name} copies no examples, which /v1/samples shows")
    return faults


def main() -> int:
    """Run all checks, print the faults on stdout, and return 0 if there are none."""
    runs = [
        [TOOLS / "hadolint", *(DOCKER / name for name in DOCKERFILES)],
        [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
        + [DOCKER / name for name in COMPOSE_FILES],
        [TOOLS / "shellcheck", DOCKER / SLURM],
        [TOOLS / "kubernetes-validate", "--strict", "--quiet", DOCKER / KUBERNETES],
    ]
    failed = [run[0].name for run in runs if subprocess.run(run, check=False).returncode]
    faults = [f"{stale}; run docker/lock.py in the environment that passes the tests" for stale in stale_pins()]
    faults += unknown_settings() + slurm_faults() + copy_faults()
    faults += [] if failed else compose_faults() + kubernetes_faults()  # they rely on valid files
    for fault in faults:
        print(fault)
    if failed or faults:
        return 1
    examples = f"{len(COMPOSE_FILES)} compose files, the examples for Slurm and Kubernetes"
    print(f"{len(DOCKERFILES)} Dockerfiles, {examples} and the pins hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
