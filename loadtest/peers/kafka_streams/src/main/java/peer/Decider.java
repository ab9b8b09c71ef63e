package peer;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.bouncycastle.crypto.digests.Blake2bDigest;
import pointsman.Band;
import pointsman.OrchestratorEvent;
import pointsman.OrchestratorEventKind;
import pointsman.ResultStatus;
import pointsman.Slip;
import pointsman.Stage;
import pointsman.TaskDispatched;
import pointsman.TaskResult;
import pointsman.TaskSubmitted;
import pointsman.ValueTier;

/** The common decision: what the shared decide.py says, in Java. One thread uses an instance. */
final class Decider {
    private static final double SCORE_DECIMALS = 1e12;
    private static final int FACT_ID_BITS = 128;

    private record Rule(String phrase, int route, double confidence) {}

    private record Intent(String name, double confidence) {}

    private final Config.Policy policy;
    private final Config.Topics topics;
    private final String[] routes;
    private final Map<String, List<Rule>> byFirstWord = new HashMap<>();

    Decider(Config config) {
        policy = config.policy();
        topics = config.topics();
        routes = policy.routes().keySet().toArray(String[]::new);
        for (int route = 0; route < routes.length; route++) {
            for (Config.Phrase each : policy.routes().get(routes[route]).phrases()) {
                String phrase = each.phrase().toLowerCase(Locale.ROOT);
                String first = phrase.substring(0, wordEnd(phrase, 0));
                byFirstWord.computeIfAbsent(first, word -> new ArrayList<>())
                        .add(new Rule(phrase, route, each.confidence()));
            }
        }
    }

    /** All that a task leads to. */
    List<Decision> decide(TaskSubmitted task) {
        long nowMs = System.currentTimeMillis();
        Intent intent = intent(task);
        Config.Route route = policy.routes().get(intent.name());
        ValueTier tier = task.getValueTier() == ValueTier.UNKNOWN ? ValueTier.valueOf(policy.tier()) : task.getValueTier();
        if (tier == ValueTier.LOW && route.lowValueAnswer() != null) {
            String answer = route.lowValueAnswer().replace("{intent}", intent.name());
            return List.of(result(task, intent, ResultStatus.COMPLETED, "RULE", answer, nowMs));
        }
        boolean isHigh = tier == ValueTier.HIGH;
        double confidence = intent.confidence();
        if (isHigh || policy.bands().panelAbove() < confidence && confidence <= policy.bands().singleAbove()) {
            int size = policy.panelSizes().get(isHigh ? "HIGH" : "OTHER");
            List<String> panel = route.voters().subList(0, Math.min(size, route.voters().size()));
            if (panel.size() >= policy.quorum()) {
                return dispatches(task, intent, route, tier, Band.PANEL, "PANEL", panel, nowMs);
            }
            return one(task, intent, route, tier, "PANEL_TOO_SMALL", nowMs);
        }
        if (confidence > policy.bands().singleAbove()) {
            return one(task, intent, route, tier, "ROUTED", nowMs);
        }
        Decision note = note(task, intent, nowMs);
        if (route.fallbackAgent() == null) {
            String answer = route.fallbackAnswer();
            return List.of(note, result(task, intent, ResultStatus.DEGRADED, "LOW_CONFIDENCE", answer, nowMs));
        }
        List<String> fallback = List.of(route.fallbackAgent());
        List<Decision> found =
                new ArrayList<>(dispatches(task, intent, route, tier, Band.FALLBACK, "LOW_CONFIDENCE", fallback, nowMs));
        found.add(note);
        return found;
    }

    private List<Decision> one(
            TaskSubmitted task, Intent intent, Config.Route route, ValueTier tier, String reason, long nowMs) {
        return dispatches(task, intent, route, tier, Band.SINGLE, reason, List.of(route.agents().get(0)), nowMs);
    }

    private List<Decision> dispatches(
            TaskSubmitted task,
            Intent intent,
            Config.Route route,
            ValueTier tier,
            Band band,
            String reason,
            List<String> seats,
            long nowMs) {
        List<String> chain =
                band == Band.FALLBACK ? List.of() : route.chain().stream().filter(each -> !seats.contains(each)).toList();
        List<Decision> found = new ArrayList<>(seats.size());
        for (int seat = 0; seat < seats.size(); seat++) {
            String agent = seats.get(seat);
            Slip slip = new Slip(
                    agent,
                    seat + 1,
                    seat,
                    Stage.WORK,
                    intent.name(),
                    intent.confidence(),
                    band,
                    band == Band.PANEL ? seats : List.of(),
                    chain,
                    reason,
                    policy.version(),
                    tier,
                    seat + 1,
                    0L,
                    0L,
                    0L,
                    policy.agents().get(agent).timeoutMs(),
                    nowMs + route.deadlineMs(),
                    nowMs * 1000);
            found.add(new Decision(topics.inboxes().get(agent), new TaskDispatched(slip, task)));
        }
        return found;
    }

    private Decision result(
            TaskSubmitted task, Intent intent, ResultStatus status, String reason, String answer, long nowMs) {
        TaskResult result = TaskResult.newBuilder()
                .setTaskId(task.getTaskId())
                .setTenant(task.getTenant())
                .setConversationId(task.getConversationId())
                .setLabels(task.getLabels())
                .setTraceparent(task.getTraceparent())
                .setStatus(status)
                .setReason(reason)
                .setIntent(intent.name())
                .setAnswer(answer)
                .setSubmittedAt(task.getSubmittedAt())
                .setDecidedAt(nowMs * 1000)
                .setRouteVersion(policy.version())
                .build();
        return new Decision(topics.results(), result);
    }

    private Decision note(TaskSubmitted task, Intent intent, long nowMs) {
        String id = factId(task.getTenant(), task.getTaskId(), "ESCALATED", "LOW_CONFIDENCE", "", "0", "UNKNOWN");
        OrchestratorEvent event = OrchestratorEvent.newBuilder()
                .setEventId(id)
                .setKind(OrchestratorEventKind.ESCALATED)
                .setTaskId(task.getTaskId())
                .setTenant(task.getTenant())
                .setConversationId(task.getConversationId())
                .setRootId(task.getRootId())
                .setIntent(intent.name())
                .setReason("LOW_CONFIDENCE")
                .setSubmittedAt(task.getSubmittedAt())
                .setAt(nowMs * 1000)
                .setRouteVersion(policy.version())
                .build();
        return new Decision(topics.orchestrator(), event);
    }

    private Intent intent(TaskSubmitted task) {
        Double stated = task.getConfidence();
        if (task.getIntent() != null) {
            return new Intent(task.getIntent(), stated == null ? 1.0 : stated);
        }
        Intent found = intentOf(task.getText());
        return stated == null ? found : new Intent(found.name(), stated);
    }

    private Intent intentOf(String original) {
        String text = original.toLowerCase(Locale.ROOT);
        Set<Rule> found = new HashSet<>();
        for (int start = nextWord(text, 0); start < text.length(); ) {
            int end = wordEnd(text, start);
            for (Rule rule : byFirstWord.getOrDefault(text.substring(start, end), List.of())) {
                int after = start + rule.phrase().length();
                if (text.startsWith(rule.phrase(), start) && (after == text.length() || !isWord(text, after))) {
                    found.add(rule);
                }
            }
            start = nextWord(text, end);
        }
        if (found.isEmpty()) {
            return new Intent(policy.defaultRoute(), 0.0);
        }
        double[] doubts = new double[routes.length];
        Arrays.fill(doubts, 1.0);
        found.forEach(rule -> doubts[rule.route()] *= 1.0 - rule.confidence());
        int best = 0;
        for (int route = 1; route < routes.length; route++) {
            if (score(doubts[route]) > score(doubts[best])) { // the first of equals
                best = route;
            }
        }
        double second = 0.0;
        for (int route = 0; route < routes.length; route++) {
            if (route != best) {
                second = Math.max(second, score(doubts[route]));
            }
        }
        double first = score(doubts[best]);
        return new Intent(routes[best], first * (first / (first + second)));
    }

    private static double score(double doubt) {
        return Math.rint((1.0 - doubt) * SCORE_DECIMALS) / SCORE_DECIMALS;
    }

    private static boolean isWord(String text, int at) {
        char each = text.charAt(at);
        return Character.isLetterOrDigit(each) || each == '_';
    }

    private static int wordEnd(String text, int start) {
        int end = start;
        while (end < text.length() && isWord(text, end)) {
            end++;
        }
        return end;
    }

    private static int nextWord(String text, int from) {
        int start = from;
        while (start < text.length() && !isWord(text, start)) {
            start++;
        }
        return start;
    }

    private static String factId(String... parts) {
        StringBuilder text = new StringBuilder();
        for (String part : parts) {
            text.append(part.codePointCount(0, part.length())).append(':').append(part);
        }
        Blake2bDigest digest = new Blake2bDigest(FACT_ID_BITS);
        byte[] bytes = text.toString().getBytes(StandardCharsets.UTF_8);
        digest.update(bytes, 0, bytes.length);
        byte[] id = new byte[FACT_ID_BITS / Byte.SIZE];
        digest.doFinal(id, 0);
        return HexFormat.of().formatHex(id);
    }
}
