import type { ButtonHTMLAttributes } from "react";
import css from "./controls.module.css";

type Props = ButtonHTMLAttributes<HTMLButtonElement> & { look?: "primary" | "plain" | "icon" };

export function Button({ look, className, ...rest }: Props) {
  const looks = look === "icon" ? `${css.plain} ${css.icon}` : look ? css[look] : "";
  return <button type="button" className={`${css.button} ${looks} ${className ?? ""}`} {...rest} />;
}

/** The class of a button, for links that look like one. */
export function buttonClass(look?: "primary" | "plain"): string {
  return `${css.button} ${look ? css[look] : ""}`;
}

export const inputClass = css.input!;
