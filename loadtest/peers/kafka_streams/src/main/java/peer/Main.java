package peer;

import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import pointsman.TaskSubmitted;

/**
 * The same work on Kafka Streams: a stateless topology of one flatMapValues, its output sorted by topic.
 *
 * <p>The key decides the partition of the output as it decided that of the input, by the same hash.
 */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Config config = Config.given();
        Serde<TaskSubmitted> tasks = Serdes.serdeFrom(
                (topic, task) -> {
                    throw new UnsupportedOperationException("tasks are only read");
                },
                new Framed.Reader<>(TaskSubmitted.getClassSchema(), config.schemaId("TaskSubmitted")));
        Map<String, Integer> schemaIds = Map.of(
                "TaskDispatched", config.schemaId("TaskDispatched"),
                "TaskResult", config.schemaId("TaskResult"),
                "OrchestratorEvent", config.schemaId("OrchestratorEvent"));
        Serde<Decision> decisions = Serdes.serdeFrom(new Framed.Writer(schemaIds), (topic, value) -> {
            throw new UnsupportedOperationException("decisions are only written");
        });
        Decider decider = new Decider(config);

        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(config.topics().submitted(), Consumed.with(Serdes.ByteArray(), tasks))
                .flatMapValues(decider::decide)
                .to((key, decision, context) -> decision.topic(), Produced.with(Serdes.ByteArray(), decisions));

        KafkaStreams streams = new KafkaStreams(builder.build(), properties(config));
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static Properties properties(Config config) {
        Properties found = new Properties();
        found.put(StreamsConfig.APPLICATION_ID_CONFIG, config.group());
        found.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, config.broker());
        found.put(StreamsConfig.STATE_DIR_CONFIG, config.stateDir());
        found.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        found.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1); // what is measured is the cost of a record, not of threads
        found.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        found.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        found.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        found.put(StreamsConfig.consumerPrefix(ConsumerConfig.ISOLATION_LEVEL_CONFIG), "read_committed");
        found.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        found.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MIN_BYTES_CONFIG), 65_536);
        found.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG), 20);
        found.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        found.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
        found.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 1_000_000);
        found.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 268_435_456L);
        return found;
    }
}
