import type { Schemas } from "../api/client";
import { bytes, count, duration, figure, percent } from "../format";
import { Notice } from "../parts/Notice";
import css from "./NewJobPage.module.css";
import { writeValue } from "./yaml";

type Plan = Schemas["PlanObject"];

/** What the job would come to, before it is made. */
export function PlanCard({ plan }: { plan: Plan }) {
  const facts: [string, string][] = [
    ["Steps", count(plan.steps)],
    ["Tokens", tokensOf(plan)],
    ["Time", plan.eta ? `${duration(plan.eta.low_s)} to ${duration(plan.eta.high_s)}` : "not known"],
    ["Memory", memoryOf(plan)],
    ...priceOf(plan),
    ["Rows", plan.packing_efficiency < 1 ? `filled to ${percent(plan.packing_efficiency)}` : "filled whole"],
  ];
  return (
    <section className={css.plan} aria-label="Plan">
      <h2>What it will come to</h2>
      <dl>
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {plan.fits === false && (
        <Notice tone="warn">
          It does not fit into the memory of the machine that planned it.
          {plan.mend && <Mend mend={plan.mend} />}
        </Notice>
      )}
      {plan.unplanned && <p className="muted">{plan.unplanned}</p>}
    </section>
  );
}

function memoryOf({ memory, room_bytes: room, ranks, zero_stage: stage }: Plan): string {
  if (!memory) return "not known";
  const each = ranks > 1 ? `, in each of ${ranks} processes${stage ? ` (zero_stage ${stage})` : ""}` : "";
  return bytes(memory.total) + (room ? ` of ${bytes(room)}` : "") + each;
}

/** Those that pass through the models; how many of them are learnt, scored, or written at most. */
function tokensOf({ kind, exact, tokens, trained_tokens }: Plan): string {
  const share = percent(trained_tokens / Math.max(1, tokens));
  if (kind !== "eval") return `${count(tokens)}, of which ${share} are learnt`;
  return exact ? `${count(tokens)}; ${count(trained_tokens)} are scored` : `${count(tokens)} at most`;
}

/** What it costs and emits, where the operator has set prices. */
function priceOf({ cost, co2e_g }: Plan): [string, string][] {
  const told: [string, string][] = [];
  if (cost) told.push(["Cost", `${cost.low.toFixed(2)} to ${cost.high.toFixed(2)} ${cost.currency}`]);
  if (co2e_g !== null) told.push(["CO₂e", co2e_g < 1000 ? `${figure(co2e_g)} g` : `${figure(co2e_g / 1000)} kg`]);
  return told;
}

function Mend({ mend }: { mend: Schemas["Mend"] }) {
  return (
    <>
      {" "}
      With these edits it needs {bytes(mend.total_bytes)}:
      <ul>
        {mend.edits.map(({ path, value }) => (
          <li key={path}>
            <code>
              {path}: {writeValue(value)}
            </code>
          </li>
        ))}
      </ul>
    </>
  );
}
