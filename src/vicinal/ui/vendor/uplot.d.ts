/** The part of uPlot that the dashboard uses. */
export default class uPlot {
  constructor(options: any, data: (number | null)[][], target: HTMLElement);
  setData(data: (number | null)[][]): void;
  setSize(size: { width: number; height: number }): void;
  destroy(): void;
}
