import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { type Artifact, pathOf } from "../api/jobs";
import { areAllModelsQuery, MOST, modelsQuery } from "../api/models";
import { bytes, count, figure } from "../format";
import { Checksums } from "../job/ArtifactsTab";
import { Ago } from "../parts/Ago";
import { Button, buttonClass } from "../parts/Button";
import { Command } from "../parts/Command";
import { Head } from "../parts/Head";
import { Icon } from "../parts/Icon";
import { List, numberClass } from "../parts/List";
import { Empty, Failure, Notice } from "../parts/Notice";

export function ModelsPage() {
  const { data, error } = useQuery(modelsQuery);
  const areAll = useQuery(areAllModelsQuery).data;
  const [shown, setShown] = useState<Artifact | null>(null);
  return (
    <>
      <Head title="Models and adapters" />
      {error && !data && <Failure error={error} />}
      {data?.length === 0 && (
        <Empty title="No models yet">
          <p className="muted">A pretrain job creates the first one from a text:</p>
          <Command text=".venv/bin/trainyard jobs create -f examples/pretrain.yaml" />
        </Empty>
      )}
      {areAll === false && (
        <Notice>
          Only the newest {count(MOST)} models and the newest {count(MOST)} adapters are listed.
        </Notice>
      )}
      {data && data.length > 0 && (
        <List
          label="Models and adapters"
          columns={["Name", "Kind", { number: "eval_loss" }, { number: "Size" }, "Created", "Digest", "Download"]}
        >
          {data.map((artifact) => (
            <tr key={artifact.id}>
              <td>
                <Link to="/models/$kind/$id" params={{ kind: artifact.kind, id: artifact.id }}>
                  <b>{artifact.reference}</b>
                </Link>
              </td>
              <td>{artifact.kind}</td>
              <td className={numberClass}>
                {typeof artifact.metrics.eval_loss === "number" ? figure(artifact.metrics.eval_loss) : "–"}
              </td>
              <td className={numberClass}>{bytes(artifact.size_bytes)}</td>
              <td>
                <Ago at={artifact.created_at} />
              </td>
              <td>
                <Button look="plain" onClick={() => setShown(artifact)}>
                  <code>{artifact.digest.slice(0, 12)}</code>
                  <span className="visually-hidden">: checksums of {artifact.reference}</span>
                </Button>
              </td>
              <td>
                <a className={buttonClass()} href={`${pathOf(artifact)}/archive`} download>
                  <Icon name="download" /> tar <span className="visually-hidden">of {artifact.reference}</span>
                </a>
              </td>
            </tr>
          ))}
        </List>
      )}
      {shown && <Checksums artifact={shown} onClose={() => setShown(null)} />}
    </>
  );
}
