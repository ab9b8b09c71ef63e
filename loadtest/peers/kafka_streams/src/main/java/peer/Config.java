package peer;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What a peer is told: the JSON file that PEER_CONFIG names. */
@JsonIgnoreProperties(ignoreUnknown = true)
record Config(
        String broker,
        String group,
        @JsonProperty("state_dir") String stateDir,
        Topics topics,
        Policy policy,
        Map<String, JsonNode> schemas) {

    record Topics(String submitted, String results, String orchestrator, Map<String, String> inboxes) {}

    record Bands(@JsonProperty("single_above") double singleAbove, @JsonProperty("panel_above") double panelAbove) {}

    record Agent(@JsonProperty("timeout_ms") int timeoutMs) {}

    record Phrase(String phrase, double confidence) {}

    record Route(
            List<String> agents,
            List<String> voters,
            List<String> chain,
            @JsonProperty("fallback_agent") String fallbackAgent,
            @JsonProperty("fallback_answer") String fallbackAnswer,
            @JsonProperty("low_value_answer") String lowValueAnswer,
            @JsonProperty("deadline_ms") long deadlineMs,
            List<Phrase> phrases) {}

    record Policy(
            String version,
            @JsonProperty("default_route") String defaultRoute,
            String tier,
            Bands bands,
            int quorum,
            @JsonProperty("panel_sizes") Map<String, Integer> panelSizes,
            Map<String, Agent> agents,
            LinkedHashMap<String, Route> routes) {}

    static Config given() throws IOException {
        return new ObjectMapper().readValue(new File(System.getenv("PEER_CONFIG")), Config.class);
    }

    int schemaId(String record) {
        return schemas.get(record).get("id").intValue();
    }
}
