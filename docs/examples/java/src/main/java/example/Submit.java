package example;

import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;
import pointsman.TaskSubmitted;

/** Submits one task for each text and prints the ids: {@code Submit BROKER TOPIC TEXT...}. */
public final class Submit {
  public static void main(String[] arguments) throws Exception {
    String broker = arguments[0];
    String topic = arguments[1];
    // What this client does by default is what is wanted: acks=all, idempotence, and murmur2 over the key.
    Map<String, Object> config = Map.of(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, broker);
    try (var producer =
        new KafkaProducer<String, TaskSubmitted>(
            config, new StringSerializer(), Framed.serializer(new Registry(), TaskSubmitted.getClassSchema()))) {
      for (int i = 2; i < arguments.length; i++) {
        TaskSubmitted task =
            TaskSubmitted.newBuilder()
                .setTaskId(UUID.randomUUID().toString())
                .setText(arguments[i])
                .setLabels(Map.of("producer", "java"))
                .build();
        // The key is the conversation's id where there is one, else the task's.
        String key = task.getConversationId() != null ? task.getConversationId() : task.getTaskId();
        Future<RecordMetadata> sent = producer.send(new ProducerRecord<>(topic, key, task));
        sent.get(); // Whoever sends many waits once, after the last. Sent again, it is still the same task: by its id.
        System.out.println(task.getTaskId());
      }
    }
  }
}
