package example;

import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;
import pointsman.TaskResult;

/** Prints results as they come, each once, until it has COUNT of them: {@code Results BROKER TOPIC GROUP COUNT}. */
public final class Results {
  private static final int REMEMBERED = 100_000;

  public static void main(String[] arguments) {
    Map<String, Object> config =
        Map.of(
            ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0],
            ConsumerConfig.GROUP_ID_CONFIG, arguments[2],
            ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest",
            ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed",
            ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
    long left = Long.parseLong(arguments[3]);
    Map<String, Boolean> seen = lastOnes();
    try (var consumer =
        new KafkaConsumer<String, TaskResult>(
            config, new StringDeserializer(), Framed.deserializer(new Registry(), TaskResult.getClassSchema()))) {
      consumer.subscribe(List.of(arguments[1]));
      while (left > 0) {
        for (ConsumerRecord<String, TaskResult> record : consumer.poll(Duration.ofSeconds(1))) {
          TaskResult result = record.value();
          // Delivery is at least once: the first result of a task counts.
          if (seen.put(result.getTenant() + "\0" + result.getTaskId(), true) == null) {
            System.out.printf(
                "%s %s %s %s%n", result.getTaskId(), result.getStatus(), result.getLabels(), result.getAnswer());
            left--;
          }
        }
        consumer.commitSync(); // After the work, so that a crash repeats some of it and loses none.
      }
    }
  }

  /** Of more results than these a repeat is no longer known; a store with a key on the task's id forgets none. */
  private static Map<String, Boolean> lastOnes() {
    return new LinkedHashMap<>() {
      @Override
      protected boolean removeEldestEntry(Map.Entry<String, Boolean> eldest) {
        return size() > REMEMBERED;
      }
    };
  }
}
