const PATHS = {
  queued: "M8 4v4l2.5 2M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12Z",
  preparing: "M3 5.5 8 3l5 2.5v5L8 13l-5-2.5v-5ZM3 5.5 8 8l5-2.5M8 8v5",
  running: "M5.5 3.5v9l7-4.5-7-4.5Z",
  succeeded: "m3.5 8.5 3 3 6-7",
  failed: "m4 4 8 8M12 4l-8 8",
  cancelled: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM4 4l8 8",
  paused: "M5.5 3.5v9M10.5 3.5v9",
  warn: "M8 6v3.5M8 11.6v.2M8 2.2 14.3 13.5H1.7L8 2.2Z",
  info: "M8 7.5V11M8 5v.2M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12Z",
  search: "m10.5 10.5 3.5 3.5M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10Z",
  help: "M6 6.2A2 2 0 1 1 8.6 8c-.4.2-.6.5-.6 1v.3M8 11.6v.2M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12Z",
  light: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
  dark: "M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7Z",
  system: "M2 3h12v8H2V3ZM6 14h4M8 11v3",
  menu: "M2.5 4.5h11M2.5 8h11M2.5 11.5h11",
  copy: "M5.5 5.5h7v8h-7v-8ZM10.5 5.5v-3h-7v8h2",
  download: "M8 2.5v7.5M4.8 7 8 10.2 11.2 7M3 13.5h10",
  plus: "M8 3v10M3 8h10",
  stop: "M4.5 4.5h7v7h-7v-7Z",
  star: "m8 2 1.8 3.9 4.2.5-3.1 2.9.8 4.2L8 11.4l-3.7 2.1.8-4.2L2 6.4l4.2-.5L8 2Z",
} as const;

export type IconName = keyof typeof PATHS;

/** A decorative icon: the text beside it says the same, so screen readers skip it. */
export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg aria-hidden="true" width={size} height={size} viewBox="0 0 16 16" focusable="false">
      <path
        d={PATHS[name]}
        fill="none"
        stroke="currentColor"
        strokeWidth="1.6"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}
