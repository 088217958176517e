import { Failure } from "../parts/Notice";
import { useTitle } from "../parts/title";
import css from "./SignIn.module.css";

/** Shown before the service has said who is signed in, when that fails. */
export function Unopened({ error }: { error: Error }) {
  useTitle("Connecting");
  return (
    <main className={css.page}>
      <Failure error={error} />
    </main>
  );
}
