import { Button } from "../parts/Button";
import { Icon } from "../parts/Icon";
import { chooseTheme, type Theme, useTheme } from "../theme";

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

/** Cycles through the system's theme, light and dark. */
export function ThemeSwitch() {
  const theme = useTheme();
  const label = `Theme: ${theme}. Switch to ${NEXT[theme]}`;
  return (
    <Button look="icon" aria-label={label} title={label} onClick={() => chooseTheme(NEXT[theme])}>
      <Icon name={theme} />
    </Button>
  );
}
