// Made from the channel catalogue; decimals are strings, so that no digit is lost.

/** One row per trader: what it does, why, and how it has done. As it is published. */
export interface TraderStatusPayload {
  id: string;
  name: string;
  status: "IDLE" | "STARTING" | "RUNNING" | "PAUSED" | "STOPPING" | "STOPPED" | "ERROR";
  exchange?: string | null;
  symbol?: string | null;
  strategy?: string | null;
  reason?: string | null;
  metrics?: {
    totalTrades: number;
    winningTrades: number;
    losingTrades: number;
    totalProfit: string;
    totalLoss: string;
    netProfit: string;
    averageProfit: string;
    averageLoss: string;
    maxDrawdown: string;
    winRate: number;
    profitFactor?: number | null;
    sharpeRatio?: number | null;
    startTime?: string | null;
    uptime?: string | null;
    signalsExecuted?: number;
    closeSignalsExecuted?: number;
    lastSignalAction?: "BUY" | "SELL" | "HOLD" | "CLOSE" | null;
    lastSignalConfidence?: number | null;
    lastSignalTime?: string | null;
  } | null;
  updatedAt: string;
}

/** One row per trader: what it does, why, and how it has done. As subscribers get it. */
export interface TraderStatusRow {
  id: string;
  name: string;
  status: "IDLE" | "STARTING" | "RUNNING" | "PAUSED" | "STOPPING" | "STOPPED" | "ERROR";
  exchange: string | null;
  symbol: string | null;
  strategy: string | null;
  reason: string | null;
  metrics: {
    totalTrades: number;
    winningTrades: number;
    losingTrades: number;
    totalProfit: string;
    totalLoss: string;
    netProfit: string;
    averageProfit: string;
    averageLoss: string;
    maxDrawdown: string;
    winRate: number;
    profitFactor: number | null;
    sharpeRatio: number | null;
    startTime: string | null;
    uptime: string | null;
    signalsExecuted: number;
    closeSignalsExecuted: number;
    lastSignalAction: "BUY" | "SELL" | "HOLD" | "CLOSE" | null;
    lastSignalConfidence: number | null;
    lastSignalTime: string | null;
  } | null;
  updatedAt: string;
}

export interface TraderStatusEvent {
  type: "event";
  channel: "trader-status";
  seq: number;
  op: "upsert" | "delete";
  key: string;
  data: TraderStatusRow;
  timestamp: number;
}

/** One row per position, from its opening to its close. As it is published. */
export interface PositionPayload {
  id: string;
  traderId: string;
  symbol: string;
  action: "LONG" | "SHORT";
  quantity: string;
  entryPrice: string;
  currentPrice: string;
  unrealizedPnL: string;
  realizedPnL?: string | null;
  status: "OPEN" | "UPDATED" | "CLOSED";
  reason?: string | null;
  trailingStopActivated?: boolean;
  stopLossPrice?: string | null;
  takeProfitPrice?: string | null;
  isActive: boolean;
  updatedAt: string;
  exchange?: string | null;
  leverage?: string | null;
  openedAt?: string | null;
  traderName?: string | null;
}

/** One row per position, from its opening to its close. As subscribers get it. */
export interface PositionRow {
  id: string;
  traderId: string;
  symbol: string;
  action: "LONG" | "SHORT";
  quantity: string;
  entryPrice: string;
  currentPrice: string;
  unrealizedPnL: string;
  realizedPnL: string | null;
  status: "OPEN" | "UPDATED" | "CLOSED";
  reason: string | null;
  trailingStopActivated: boolean;
  stopLossPrice: string | null;
  takeProfitPrice: string | null;
  isActive: boolean;
  updatedAt: string;
  exchange: string | null;
  leverage: string | null;
  openedAt: string | null;
  traderName: string | null;
}

export interface PositionEvent {
  type: "event";
  channel: "positions";
  seq: number;
  op: "upsert" | "delete";
  key: string;
  data: PositionRow;
  timestamp: number;
}

/** One row per alert that is not resolved, keyed by its fingerprint. As it is published. */
export interface RiskAlertPayload {
  id: string;
  traderId?: string | null;
  severity: "INFO" | "WARNING" | "CRITICAL";
  recommendation?: "ALLOW" | "WARN" | "BLOCK" | "EMERGENCY_STOP" | null;
  message: string;
  violations?: Array<{
    type: "BUDGET" | "LEVERAGE" | "EXPOSURE" | "DAILY_LOSS" | "STOP_LOSS" | "EMERGENCY" | "UNKNOWN";
    message: string;
    details?: Record<string, string | null>;
  }>;
  status: "ACTIVE" | "RESOLVED";
  createdAt: string;
}

/** One row per alert that is not resolved, keyed by its fingerprint. As subscribers get it. */
export interface RiskAlertRow {
  id: string;
  traderId: string | null;
  severity: "INFO" | "WARNING" | "CRITICAL";
  recommendation: "ALLOW" | "WARN" | "BLOCK" | "EMERGENCY_STOP" | null;
  message: string;
  violations: Array<{
    type: "BUDGET" | "LEVERAGE" | "EXPOSURE" | "DAILY_LOSS" | "STOP_LOSS" | "EMERGENCY" | "UNKNOWN";
    message: string;
    details: Record<string, string | null>;
  }>;
  status: "ACTIVE" | "RESOLVED";
  createdAt: string;
  count: number;
  lastSeenAt: string;
  acknowledgedBy: string | null;
  acknowledgedAt: string | null;
  note: string | null;
  activeSince: string | null;
  escalatedAt: string | null;
}

export interface RiskAlertEvent {
  type: "event";
  channel: "risk-alerts";
  seq: number;
  op: "upsert" | "delete";
  key: string;
  data: RiskAlertRow;
  timestamp: number;
}

/** One row per instrument and exchange: its newest price. As it is published. */
export interface MarketDataPayload {
  id: string;
  symbol: string;
  price: string;
  source: string;
  change24h?: number | null;
  isSnapshot?: boolean;
  updatedAt: string;
  exchange?: string | null;
  bid?: string | null;
  ask?: string | null;
  size?: string | null;
}

/** One row per instrument and exchange: its newest price. As subscribers get it. */
export interface MarketDataRow {
  id: string;
  symbol: string;
  price: string;
  source: string;
  change24h: number | null;
  isSnapshot: boolean;
  updatedAt: string;
  exchange: string | null;
  bid: string | null;
  ask: string | null;
  size: string | null;
}

export interface MarketDataEvent {
  type: "event";
  channel: "market-data";
  seq: number;
  op: "upsert" | "delete";
  key: string;
  data: MarketDataRow;
  timestamp: number;
}

/** Every fill of an order, appended as it happens. As it is published. */
export interface ExecutionPayload {
  id: string;
  orderId: string;
  traderId: string;
  positionId?: string | null;
  symbol: string;
  exchange?: string | null;
  side: "BUY" | "SELL";
  quantity: string;
  price: string;
  fee?: string | null;
  feeCurrency?: string | null;
  liquidity?: "MAKER" | "TAKER" | null;
  executedAt: string;
}

/** Every fill of an order, appended as it happens. As subscribers get it. */
export interface ExecutionRow {
  id: string;
  orderId: string;
  traderId: string;
  positionId: string | null;
  symbol: string;
  exchange: string | null;
  side: "BUY" | "SELL";
  quantity: string;
  price: string;
  fee: string | null;
  feeCurrency: string | null;
  liquidity: "MAKER" | "TAKER" | null;
  executedAt: string;
}

export interface ExecutionEvent {
  type: "event";
  channel: "executions";
  seq: number;
  op: "append";
  key: string;
  data: ExecutionRow;
  timestamp: number;
}

/** The newest candle of each instrument and interval. As it is published. */
export interface CandlePayload {
  exchange?: string | null;
  symbol: string;
  interval: string;
  open: string;
  high: string;
  low: string;
  close: string;
  volume: string;
  openTime: string;
  closed: boolean;
}

/** The newest candle of each instrument and interval. As subscribers get it. */
export interface CandleRow {
  exchange: string | null;
  symbol: string;
  interval: string;
  open: string;
  high: string;
  low: string;
  close: string;
  volume: string;
  openTime: string;
  closed: boolean;
}

export interface CandleEvent {
  type: "event";
  channel: "candles";
  seq: number;
  op: "upsert" | "delete";
  key: string;
  data: CandleRow;
  timestamp: number;
}

/** What is up and what is not: exchanges, the core, the service itself. As it is published. */
export interface SystemPayload {
  component: string;
  status: "UP" | "DEGRADED" | "DOWN";
  kind?: "EXCHANGE" | "CORE" | "SERVICE" | "ADMINISTRATION";
  message?: string | null;
  since: string;
}

/** What is up and what is not: exchanges, the core, the service itself. As subscribers get it. */
export interface SystemRow {
  component: string;
  status: "UP" | "DEGRADED" | "DOWN";
  kind: "EXCHANGE" | "CORE" | "SERVICE" | "ADMINISTRATION";
  message: string | null;
  since: string;
}

export interface SystemEvent {
  type: "event";
  channel: "system";
  seq: number;
  op: "upsert" | "delete";
  key: string;
  data: SystemRow;
  timestamp: number;
}

/** The row of each channel, by its name. */
export interface Rows {
  "trader-status": TraderStatusRow;
  "positions": PositionRow;
  "risk-alerts": RiskAlertRow;
  "market-data": MarketDataRow;
  "executions": ExecutionRow;
  "candles": CandleRow;
  "system": SystemRow;
}

export interface Payloads {
  "trader-status": TraderStatusPayload;
  "positions": PositionPayload;
  "risk-alerts": RiskAlertPayload;
  "market-data": MarketDataPayload;
  "executions": ExecutionPayload;
  "candles": CandlePayload;
  "system": SystemPayload;
}

export type ChannelEvent = TraderStatusEvent | PositionEvent | RiskAlertEvent | MarketDataEvent | ExecutionEvent | CandleEvent | SystemEvent;
