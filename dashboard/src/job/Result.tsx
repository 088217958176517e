import type { Job } from "../api/jobs";
import { figure } from "../format";
import { List, numberClass } from "../parts/List";

/** The result of an evaluation: every metric, and those of each subject of its rows. */
export function Result({ result }: { result: NonNullable<Job["result"]> }) {
  const groups = Object.entries(result.groups);
  return (
    <>
      <List label="Result" columns={["Metric", { number: "Value" }]}>
        {Object.entries(result.metrics).map(([name, value]) => (
          <tr key={name}>
            <td>{name}</td>
            <td className={numberClass}>{figure(value)}</td>
          </tr>
        ))}
      </List>
      {groups.length > 0 && (
        <List label="Subjects" columns={["Subject", "Metrics"]}>
          {groups.map(([name, metrics]) => (
            <tr key={name}>
              <td>{name}</td>
              <td>
                {Object.entries(metrics)
                  .map(([metric, value]) => `${metric} ${figure(value)}`)
                  .join(", ")}
              </td>
            </tr>
          ))}
        </List>
      )}
    </>
  );
}
