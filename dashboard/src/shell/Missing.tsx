import { Link } from "@tanstack/react-router";
import { Empty } from "../parts/Notice";
import { useTitle } from "../parts/title";

export function Missing() {
  useTitle("Not found");
  return (
    <Empty title="Page not found">
      <p>
        The address may be mistyped or from another version. Back to <Link to="/jobs">all jobs</Link>.
      </p>
    </Empty>
  );
}
