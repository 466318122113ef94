"""The cluster files, checked without a cloud: Ray's own schema, and what it lets through."""

from pathlib import Path

import pytest
import yaml

from cluster.gang import TRAINABLE_CPUS, bundles
from pgolf.rules import H100_GANG

MANIFESTS = Path(__file__).parents[2] / "cluster" / "manifests"
H100_NODES = {
    "aws-p5.yaml": ("InstanceType", "p5.48xlarge", 192),
    "gcp-a3.yaml": ("machineType", "a3-highgpu-8g", 208),
}


def loaded(name):
    return yaml.safe_load((MANIFESTS / name).read_text())


def validated(config):
    util = pytest.importorskip("ray.autoscaler._private.util")
    util.validate_config(util.prepare_config(config))


@pytest.mark.parametrize("name", H100_NODES)
def test_ray_accepts_the_cluster_file_and_refuses_a_misspelt_one(name):
    validated(loaded(name))
    misspelt = loaded(name)
    misspelt["max_workerz"] = misspelt.pop("max_workers")
    with pytest.raises(Exception, match="max_workerz"):
        validated(misspelt)


@pytest.mark.parametrize("name", H100_NODES)
def test_a_worker_is_the_machine_it_says_and_holds_a_whole_gang(name):
    config = loaded(name)
    field, machine, cpus = H100_NODES[name]
    worker = config["available_node_types"]["h100"]
    assert worker["node_config"][field] == machine
    assert worker["resources"]["CPU"] == cpus
    need = bundles(H100_GANG)
    assert worker["resources"]["GPU"] == sum(bundle["GPU"] for bundle in need) == 8
    assert cpus >= sum(bundle["CPU"] for bundle in need) + TRAINABLE_CPUS
    assert worker["max_workers"] <= config["max_workers"]
    assert config["available_node_types"][config["head_node_type"]]["resources"]["GPU"] == 0


@pytest.mark.parametrize("name", H100_NODES)
def test_the_dashboard_is_not_open_to_the_world_and_wants_a_token(name):
    start = loaded(name)["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in start
    assert "RAY_AUTH_MODE=token" in start


def test_the_kuberay_job_holds_a_gang_per_pod_and_stops_the_way_tune_understands():
    job = loaded("kuberay-rayjob.yaml")
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert spec["entrypoint"].startswith("pgolf search ")
    assert spec["shutdownAfterJobFinishes"] is True  # Kueue admits no other, and idle H100s cost
    assert yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"]["mode"] == "token"  # in a pod the dashboard listens on every interface
    (worker,) = cluster["workerGroupSpecs"]
    assert worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]
    (container,) = worker["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert int(limits["nvidia.com/gpu"]) == H100_GANG.ranks
    assert int(limits["cpu"]) >= H100_GANG.ranks * H100_GANG.cpus_per_rank + TRAINABLE_CPUS
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]


def test_the_kuberay_job_runs_the_ray_that_this_project_pins():
    ray = pytest.importorskip("ray")
    assert loaded("kuberay-rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
