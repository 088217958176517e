import { useQuery } from "@tanstack/react-query";
import { dump } from "js-yaml";
import { configQuery } from "../api/jobs";
import { Copy } from "../parts/Command";
import { Failure } from "../parts/Notice";
import css from "./ConfigTab.module.css";
import { useJob } from "./useJob";

type Value = string | number | boolean | null | readonly unknown[] | Record<string, unknown>;
type Row = [path: string, value: Value];

export function ConfigTab() {
  const job = useJob();
  const { data, error } = useQuery(configQuery(job.id));
  if (!data) return error && <Failure error={error} />;
  return (
    <>
      <div className={css.bar}>
        <p className="muted">
          Every value that the worker runs with. <b className={css.set}>set</b> values come from the request,{" "}
          <b>auto</b> values were chosen by the service, and the others are defaults.
        </p>
        <Copy
          text={dump(data.spec, { lineWidth: 120 })}
          label="Copy for `trainyard jobs create -f`"
          word="Copy as YAML"
        />
      </div>
      <div className={css.groups}>
        {groupsOf(data.spec).map(([group, rows]) => (
          <section key={group} className={css.group} aria-label={group || "job"}>
            <h2>{group || "job"}</h2>
            <table>
              <tbody>
                {rows.map(([path, value]) => (
                  <tr key={path}>
                    <th scope="row">{path.slice(group ? group.length + 1 : 0)}</th>
                    <td>
                      <code>{display(value)}</code>
                    </td>
                    <td>
                      <span className={data.origins[path] === "set" ? css.set : css.other}>{data.origins[path]}</span>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </section>
        ))}
      </div>
    </>
  );
}

/** Groups the values of a spec by section, those of the job itself first. */
function groupsOf(spec: Record<string, unknown>): [string, Row[]][] {
  const groups = new Map<string, Row[]>([["", []]]);
  for (const [key, value] of Object.entries(spec)) {
    if (isPart(value)) groups.set(key, leavesOf(value, key));
    else groups.get("")!.push([key, value as Value]);
  }
  return [...groups];
}

function leavesOf(part: Record<string, unknown>, path: string): Row[] {
  return Object.entries(part).flatMap(([key, value]) =>
    isPart(value) ? leavesOf(value, `${path}.${key}`) : [[`${path}.${key}`, value as Value] satisfies Row],
  );
}

function isPart(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length > 0;
}

function display(value: Value): string {
  if (value === null) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
