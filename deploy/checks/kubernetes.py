"""Checks what a schema cannot: the manifests name each other rightly, and each is applied."""

import sys
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy/kubernetes"
# The Secret is made by hand: its example holds placeholders.
NOT_APPLIED = {"kustomization.yaml", "secret.example.yaml"}


def main():
    files = {path.name: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
    by_kind = {manifest["kind"]: manifest for manifest in files.values()}
    faults = []

    listed = set(files["kustomization.yaml"]["resources"])
    if listed != files.keys() - NOT_APPLIED:
        faults.append(f"kustomization.yaml lists {sorted(listed)}, and there are {sorted(files.keys() - NOT_APPLIED)}")

    deployment, service = by_kind["Deployment"]["spec"], by_kind["Service"]["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    selectors = {
        "Deployment": deployment["selector"]["matchLabels"],
        "Service": service["selector"],
        "NetworkPolicy": by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    }
    faults += [f"{kind} selects no pod of ours" for kind, selector in selectors.items() if not selector.items() <= labels]

    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    named = {port["name"] for port in container["ports"]}
    used = {port["targetPort"] for port in service["ports"]}
    used |= {port["port"] for rule in by_kind["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]}
    used |= {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    faults += [f"port {port} is not the container's" for port in sorted(used - named)]

    secret = by_kind["Secret"]
    for variable in container["env"]:
        reference = variable["valueFrom"]["secretKeyRef"]
        if reference["name"] != secret["metadata"]["name"] or reference["key"] not in secret["stringData"]:
            faults.append(f"{variable['name']} comes from a Secret key that secret.example.yaml does not have")
    if not all("REPLACE_ME" in value for value in secret["stringData"].values()):
        faults.append("secret.example.yaml holds something other than placeholders")

    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    if {mount["name"] for mount in container["volumeMounts"]} != volumes.keys():
        faults.append("volumes and volumeMounts differ")
    if volumes["config"]["configMap"]["name"] != by_kind["ConfigMap"]["metadata"]["name"]:
        faults.append("the Deployment mounts another ConfigMap")
    if volumes["state"]["persistentVolumeClaim"]["claimName"] != by_kind["PersistentVolumeClaim"]["metadata"]["name"]:
        faults.append("the Deployment mounts another volume claim")

    if faults:
        sys.exit("\n".join(f"kubernetes: {fault}" for fault in faults))
    print(f"kubernetes: {len(files)} files name each other rightly")


if __name__ == "__main__":
    main()
