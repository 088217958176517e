import { useSuspenseQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { type Job, jobQuery } from "../api/jobs";

/** The job of the page, which JobPage has loaded before any tab renders. */
export function useJob(): Job {
  const { jobId } = useParams({ from: "/jobs/$jobId" });
  return useSuspenseQuery(jobQuery(jobId)).data;
}
