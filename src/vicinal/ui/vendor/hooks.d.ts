/** The part of preact's hooks that the dashboard uses. */
export function useState<T>(initial: T | (() => T)): [T, (next: T | ((before: T) => T)) => void];
export function useEffect(effect: () => void | (() => void), keys?: unknown[]): void;
export function useLayoutEffect(effect: () => void | (() => void), keys?: unknown[]): void;
export function useMemo<T>(make: () => T, keys: unknown[]): T;
export function useCallback<T extends (...args: any[]) => any>(callback: T, keys: unknown[]): T;
export function useRef<T>(initial: T): { current: T };
